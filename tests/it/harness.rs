//! Starts servers on free ports, talks RESP over plain sockets, and cleans up behind itself.
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait for processes in real time"
)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(30);
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// A server process, killed when dropped.
pub struct Server {
    pub port: u16,
    child: Child,
}

/// A wall clock that stands still until the test moves it, for servers started under it.
pub struct Clock {
    file: File,
    dir: TempDir,
    now_us: u64,
}

impl Clock {
    /// Shows a moment in the year 2027. Builds the small library that servers preload.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        compiler.arg(dir.path().join("clock.so")).arg(source);
        assert!(compiler.status().expect("a C compiler").success());
        let file = File::create(dir.path().join("now")).expect("a file");
        let mut clock = Self {
            file,
            dir,
            now_us: 1_800_000_000_123_456,
        };
        clock.advance(Duration::ZERO);
        clock
    }

    pub fn advance(&mut self, by: Duration) {
        self.now_us += by.as_micros() as u64;
        let now = self.now_us.to_le_bytes();
        self.file.write_all_at(&now, 0).expect("written");
    }

    fn rule(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.dir.path().join("clock.so"));
        command.env("TEST_CLOCK", self.dir.path().join("now"));
    }
}

impl Server {
    pub fn ringwood(dir: &Path, flags: &[&str]) -> Self {
        Self::ringwood_under(None, dir, flags)
    }

    pub fn ringwood_under(clock: Option<&Clock>, dir: &Path, flags: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwood"));
        command.args([
            "server",
            "--port",
            &port.to_string(),
            "--loglevel",
            "warning",
        ]);
        command.arg("--dir").arg(dir).args(flags);
        clock.inspect(|clock| clock.rule(&mut command));
        Self::start(command, port)
    }

    pub fn redis_under(clock: &Clock, dir: &Path) -> Self {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--loglevel",
            "warning",
        ]);
        command.arg("--dir").arg(dir).stdout(Stdio::null());
        clock.rule(&mut command);
        Self::start(command, port)
    }

    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}; `make test` installs it"));
        let mut server = Self { port, child };
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Some(status) = server.child.try_wait().expect("wait") {
                panic!("{command:?} ended with {status}");
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            std::thread::yield_now();
        }
        panic!("{command:?} does not answer");
    }

    pub fn connect(&self) -> Connection {
        Connection::to(self.port)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// SIGTERM, and whether the end was clean.
    pub fn terminate(mut self) -> bool {
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        assert!(status.expect("kill").success());
        self.child.wait().expect("wait").success()
    }

    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = std::fs::read_to_string(path).expect("statm");
        let pages: u64 = text
            .split(' ')
            .nth(1)
            .and_then(|p| p.parse().ok())
            .expect("pages");
        pages * 4096
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    socket.local_addr().expect("an address").port()
}

/// A client connection that sees replies as raw bytes.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_read_timeout(Some(REPLY_LIMIT)).expect("option");
        stream.set_nodelay(true).expect("option");
        Self {
            reader: BufReader::new(stream),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    pub fn call(&mut self, args: &[&str]) -> String {
        let args: Vec<Vec<u8>> = args.iter().map(|a| a.as_bytes().to_vec()).collect();
        self.send(&encode(&args)).expect("send");
        String::from_utf8_lossy(&self.reply().expect("a reply")).into_owned()
    }

    /// One whole reply, as it came.
    pub fn reply(&mut self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.read_reply(&mut out)?;
        Ok(out)
    }

    /// What comes until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let _ = self.reader.read_to_end(&mut out);
        out
    }

    fn read_reply(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let start = out.len();
        self.reader.read_until(b'\n', out)?;
        let line = &out[start..];
        if line.last() != Some(&b'\n') {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let number = || -> i64 {
            let text = std::str::from_utf8(&line[1..line.len() - 2]).unwrap_or("");
            text.parse().unwrap_or(-1)
        };
        let parts = match line[0] {
            b'$' | b'=' => {
                let len = number();
                if len >= 0 {
                    let at = out.len();
                    out.resize(at + len as usize + 2, 0);
                    self.reader.read_exact(&mut out[at..])?;
                }
                0
            }
            b'*' | b'~' | b'>' => number(),
            b'%' => number() * 2,
            _ => 0,
        };
        for _ in 0..parts {
            self.read_reply(out)?;
        }
        Ok(())
    }
}

pub fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend(format!("${}\r\n", arg.len()).bytes());
        out.extend(arg);
        out.extend(b"\r\n");
    }
    out
}

/// A small generator of pseudo-random numbers: the same seed, the same numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}
