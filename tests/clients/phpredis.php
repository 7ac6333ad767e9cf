<?php
// phpredis against a server: php phpredis.php HOST PORT [--ringwood | --cluster]. Empties all databases. With --cluster each
// command goes through the next of three nodes.

error_reporting(E_ALL);
ini_set('display_errors', 'stderr');

final class Checks
{
    public int $passed = 0;
    public int $failed = 0;

    /** The call returns `$want`: the same type, the same value. */
    public function eq(string $what, callable $call, mixed $want): void
    {
        $this->that($what, $call, fn ($got) => $got === $want, 'want ' . var_export($want, true));
    }

    public function that(string $what, callable $call, callable $holds, string $complaint = 'unexpected'): void
    {
        try {
            $got = $call();
            $good = $holds($got);
            $came = var_export($got, true);
        } catch (Throwable $error) {
            $good = false;
            $came = get_class($error) . ': ' . $error->getMessage();
        }
        if ($good) {
            $this->passed += 1;
        } else {
            $this->failed += 1;
            fwrite(STDERR, "FAILED $what: $complaint, got " . substr($came, 0, 300) . "\n");
        }
    }
}

/** Each command through the next node. */
final class Nodes
{
    private int $next = 0;

    /** @param Redis[] $nodes */
    public function __construct(private array $nodes)
    {
    }

    public function one(): Redis
    {
        return $this->nodes[$this->next++ % count($this->nodes)];
    }

    public function __call(string $name, array $words): mixed
    {
        return $this->one()->$name(...$words);
    }
}

function texts(Checks $t, Nodes $r): void
{
    $t->eq('set', fn () => $r->set('k', 'v'), true);
    $t->eq('get', fn () => $r->get('k'), 'v');
    $t->eq('get missing', fn () => $r->get('absent'), false);
    $t->eq('set with options', fn () => $r->set('k', 'w', ['nx', 'ex' => 10]), false);
    $t->eq('set xx', fn () => $r->set('k', 'w', ['xx', 'px' => 100000]), true);
    $t->that('pttl', fn () => $r->pttl('k'), fn ($got) => $got > 90000 && $got <= 100000);
    $t->eq('setnx', fn () => $r->setnx('k', 'x'), false);
    $t->eq('persist', fn () => $r->persist('k'), true);
    $t->eq('ttl', fn () => $r->ttl('k'), -1);
    $t->eq('append', fn () => $r->append('k', 'orld'), 5);
    $t->eq('getrange', fn () => $r->getRange('k', 1, 3), 'orl');
    $t->eq('setrange', fn () => $r->setRange('k', 1, 'ORL'), 5);
    $t->eq('strlen', fn () => $r->strlen('k'), 5);
    $t->eq('getset', fn () => $r->getSet('k', 'new'), 'wORLd');
    $t->eq('mset', fn () => $r->mset(['{t}a' => '1', '{t}b' => '2']), true);
    $t->eq('mget', fn () => $r->mget(['{t}a', 'absent', '{t}b']), ['1', false, '2']);
    $t->eq('incr', fn () => $r->incr('n'), 1);
    $t->eq('incrBy', fn () => $r->incrBy('n', 41), 42);
    $t->eq('decr', fn () => $r->decr('n'), 41);
    $t->eq('incrByFloat', fn () => $r->incrByFloat('f', 1.5), 1.5);
    $t->eq('setbit', fn () => $r->setBit('bits', 7, true), 0);
    $t->eq('bitcount', fn () => $r->bitCount('bits'), 1);
    $binary = implode('', array_map('chr', range(0, 255)));
    $t->eq('binary', fn () => $r->set($binary, $binary) && $r->get($binary) === $binary, true);
    $t->eq('exists', fn () => $r->exists('k', 'absent', 'n'), 2);
    $t->eq('del', fn () => $r->del('k', 'absent'), 1);
    $t->eq('unlink', fn () => $r->unlink('n'), 1);
    $t->eq('type', fn () => $r->type('f'), Redis::REDIS_STRING);
    $t->eq('rename', fn () => $r->rename('f', 'g'), true);
    $t->eq('wrong type', function () use ($r) {
        $node = $r->one();
        $node->del('l');
        $node->rPush('l', 'a');
        $got = $node->incr('l');
        return [$got, substr($node->getLastError(), 0, 9), $node->clearLastError()];
    }, [false, 'WRONGTYPE', true]);
}

function collections(Checks $t, Nodes $r): void
{
    $t->eq('hset', fn () => $r->hSet('h', 'f', 'v'), 1);
    $t->eq('hmset', fn () => $r->hMSet('h', ['g' => 1, 'i' => 2]), true);
    $t->eq('hget', fn () => $r->hGet('h', 'g'), '1');
    $t->eq('hget missing', fn () => $r->hGet('h', 'x'), false);
    $t->eq('hmget', fn () => $r->hMGet('h', ['f', 'x']), ['f' => 'v', 'x' => false]);
    $t->eq('hincrby', fn () => $r->hIncrBy('h', 'g', 4), 5);
    $t->that('hgetall', fn () => $r->hGetAll('h'), fn ($got) => $got == ['f' => 'v', 'g' => '5', 'i' => '2']);
    $t->eq('hdel', fn () => $r->hDel('h', 'f', 'x'), 1);
    $t->eq('hlen', fn () => $r->hLen('h'), 2);
    $t->eq('rpush', fn () => $r->rPush('list', 'a', 'b', 'c'), 3);
    $t->eq('lpush', fn () => $r->lPush('list', 'z'), 4);
    $t->eq('lrange', fn () => $r->lRange('list', 0, -1), ['z', 'a', 'b', 'c']);
    $t->eq('lpop', fn () => $r->lPop('list'), 'z');
    $t->eq('lrem', fn () => $r->lRem('list', 'b', 0), 1);
    $t->eq('ltrim', fn () => $r->lTrim('list', 0, 0), true);
    $t->eq('llen', fn () => $r->lLen('list'), 1);
    $t->eq('blpop', fn () => $r->blPop(['list'], 1), ['list', 'a']);
    $t->eq('blpop of nothing', fn () => $r->blPop(['list'], 1), []);
    $t->eq('sadd', fn () => $r->sAdd('s', 'a', 'b', 'c'), 3);
    $t->eq('sismember', fn () => $r->sIsMember('s', 'b'), true);
    $t->eq('srem', fn () => $r->sRem('s', 'b'), 1);
    $t->that('smembers', fn () => $r->sMembers('s'), fn ($got) => array_diff(['a', 'c'], $got) === []);
    $t->eq('scard', fn () => $r->sCard('s'), 2);
    $t->eq('zadd', fn () => $r->zAdd('z', 1.5, 'a', 2, 'b'), 2);
    $t->eq('zscore', fn () => $r->zScore('z', 'a'), 1.5);
    $t->eq('zincrby', fn () => $r->zIncrBy('z', 2, 'a'), 3.5);
    $t->eq('zrange', fn () => $r->zRange('z', 0, -1, true), ['b' => 2.0, 'a' => 3.5]);
    $t->eq('zrangebyscore', fn () => $r->zRangeByScore('z', '-inf', '(3.5'), ['b']);
    $t->eq('zrank', fn () => $r->zRank('z', 'a'), 1);
    $t->eq('zrem', fn () => $r->zRem('z', 'a'), 1);
    $t->eq('xadd', fn () => $r->xAdd('x', '5-1', ['f' => 'v']), '5-1');
    $t->eq('xrange', fn () => $r->xRange('x', '-', '+'), ['5-1' => ['f' => 'v']]);
    $t->eq('pfadd', fn () => $r->pfAdd('p', ['a', 'b']), 1);
    $t->eq('pfcount', fn () => $r->pfCount('p'), 2);
    $t->eq('geoadd', fn () => $r->geoAdd('geo', 13.361389, 38.115556, 'Palermo'), 1);
    $t->that('geopos', fn () => $r->geoPos('geo', 'Palermo'), fn ($got) => abs($got[0][0] - 13.361389) < 0.0001);
}

function together(Checks $t, Nodes $r): void
{
    $t->eq('multi', fn () => $r->one()->multi()->set('{m}a', 1)->incr('{m}a')->get('{m}a')->exec(), [true, 2, '2']);
    $t->eq('pipeline', fn () => $r->one()->pipeline()->set('{m}b', 'x')->get('{m}b')->get('absent')->exec(), [true, 'x', false]);
    $t->eq('watch', function () use ($r) {
        [$one, $other] = [$r->one(), $r->one()];
        $one->watch('{m}a');
        if ($one === $other) return false;
        $other->set('{m}a', 'else');
        return $one->multi()->set('{m}a', 'mine')->exec();
    }, false);
    $t->eq('eval', fn () => $r->eval("return {KEYS[1], ARGV[1], redis.call('get', KEYS[1])}", ['{m}b', 'w'], 1), ['{m}b', 'w', 'x']);
    $t->eq('script', function () use ($r) {
        $hash = $r->script('load', 'return 7');
        return [$r->evalSha($hash), $r->script('exists', $hash)];
    }, [7, [1]]);
    $t->eq('publish', fn () => $r->publish('nobody', 'x'), 0);
    $r->one()->pipeline()->exec();
    for ($n = 0; $n < 500; $n++) {
        $r->set("scan:$n", $n);
    }
    $t->eq('scan', function () use ($r) {
        $node = $r->one();
        $node->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
        [$found, $cursor] = [[], null];
        while ($keys = $node->scan($cursor, 'scan:*', 50)) {
            foreach ($keys as $key) $found[$key] = true;
        }
        return count($found);
    }, 500);
    $t->eq('keys', fn () => count($r->keys('scan:1*')), 111);
    $t->eq('serialized', function () use ($r) {
        $node = $r->one();
        $node->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
        $node->set('php', ['a' => [1, 2.5, null]]);
        $got = $node->get('php');
        $node->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_NONE);
        return $got;
    }, ['a' => [1, 2.5, null]]);
    $t->eq('a prefix', function () use ($r) {
        $node = $r->one();
        $node->setOption(Redis::OPT_PREFIX, 'site:');
        $node->set('k', 'prefixed');
        $node->setOption(Redis::OPT_PREFIX, '');
        return $node->get('site:k');
    }, 'prefixed');
    $t->that('info', fn () => $r->info(), fn ($got) => $got['redis_version'] === '7.0.15');
    $t->eq('ping', fn () => $r->ping(), true);
    $t->eq('ping with words', fn () => $r->ping('hello'), 'hello');
    $t->eq('raw', fn () => $r->rawCommand('ECHO', 'x'), 'x');
    if (array_intersect(['--ringwood', '--cluster'], $GLOBALS['argv'])) $t->that('siblings', fn () => $r->rawCommand('SIBLINGS', 'site:k'), fn ($got) => $got[1] === ['prefixed']);
}

[$host, $port] = [$argv[1], (int) $argv[2]];
$hosts = in_array('--cluster', $argv) ? ['127.0.0.1', '127.0.0.2', '127.0.0.3'] : [$host];
$nodes = array_map(function ($host) use ($port) {
    $node = new Redis();
    $node->connect($host, $port, 5);
    return $node;
}, $hosts);
$t = new Checks();
$r = new Nodes($nodes);
foreach (['texts', 'collections', 'together'] as $group) {
    $nodes[0]->flushAll();
    try {
        $group($t, $r);
    } catch (Throwable $error) {
        $t->failed += 1;
        fwrite(STDERR, "FAILED $group ended early: $error\n");
    }
}
echo "phpredis: {$t->passed} passed, {$t->failed} failed\n";
exit($t->failed ? 1 : 0);
