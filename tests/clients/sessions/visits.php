<?php
// PHP's own sessions with phpredis' handler, which locks them: php -S 127.0.0.1:PORT visits.php. Where the store
// is, and that sessions are locked, is said by ini settings.
set_error_handler(function ($level, $text) { throw new ErrorException($text); });
try {
    if (!session_start()) throw new Exception('the session did not start');
    $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
    $visits = $_SESSION['visits'];
    if (!session_write_close()) throw new Exception('the session was not written');
    header('Content-Type: application/json');
    echo json_encode(['visits' => $visits]);
} catch (Throwable $error) {
    http_response_code(500);
    echo $error->getMessage();
}
