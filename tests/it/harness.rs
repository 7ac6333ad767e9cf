//! Starts servers on free ports, talks RESP over plain sockets, and cleans up behind itself.
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait for processes in real time"
)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(30);
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// A server process, killed when dropped.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

/// A member of a cluster that can be stopped and started again in the same place.
pub struct Member {
    pub name: String,
    pub server: Option<Server>,
    pub address: SocketAddr,
    /// The data directory.
    pub dir: PathBuf,
    peer_address: SocketAddr,
    pub flags: Vec<String>,
}

/// Members of one cluster, each on a loopback address of its own.
pub struct Cluster {
    pub members: Vec<Member>,
    dir: TempDir,
}

impl Cluster {
    /// Starts `count` members and waits until each knows all of them, and owns what it is to own.
    pub fn start(count: usize, flags: &[&str]) -> Self {
        Self::start_under(None, count, flags)
    }

    pub fn start_under(clock: Option<&Clock>, count: usize, flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), clock, count, flags)
    }

    /// In a folder, in which each member has one with its number, from 0.
    pub fn start_in(dir: TempDir, clock: Option<&Clock>, count: usize, flags: &[&str]) -> Self {
        let hosts: Vec<IpAddr> = (1..=count)
            .map(|n| IpAddr::from([127, 0, 0, n as u8]))
            .collect();
        let seed = SocketAddr::new(hosts[0], free_port_of(hosts[0]));
        let members = hosts.iter().enumerate().map(|(nth, &host)| {
            let peer_address = if nth == 0 {
                seed
            } else {
                SocketAddr::new(host, free_port_of(host))
            };
            let mut all: Vec<String> = [
                "--cluster-enabled",
                "yes",
                "--cluster-secret",
                "a test",
                "--seeds",
                &seed.to_string(),
                "--node-name",
                &format!("node-{}", nth + 1),
                "--peer-bind",
                &host.to_string(),
                "--peer-port",
                &peer_address.port().to_string(),
                "--dir",
                &dir.path().join(nth.to_string()).display().to_string(),
            ]
            .map(str::to_owned)
            .to_vec();
            all.extend(flags.iter().map(|flag| (*flag).to_owned()));
            Member {
                name: format!("node-{}", nth + 1),
                dir: dir.path().join(nth.to_string()),
                server: None,
                address: SocketAddr::new(host, free_port_of(host)),
                peer_address,
                flags: all,
            }
        });
        let mut cluster = Self {
            members: members.collect(),
            dir,
        };
        for member in &mut cluster.members {
            member.start(clock);
        }
        cluster.wait_until_whole();
        for member in &cluster.members {
            eventually("all own what they are to own", || {
                let info = member.connect().call(&["INFO", "transfers"]);
                info.contains("transfers_unsettled:0\r\n")
            });
        }
        cluster
    }

    /// One more member, which joins through the first.
    pub fn add(&mut self, flags: &[&str]) {
        let seed = self.members[0].peer_address.to_string();
        self.add_with(&seed, flags);
    }

    /// One more node, alone and empty.
    pub fn add_alone(&mut self, flags: &[&str]) {
        self.add_with("", flags);
        let newcomer = self.members.last().expect("it was added");
        eventually("it has a cluster of its own", || {
            newcomer
                .connect()
                .call(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok\r\n")
        });
    }

    fn add_with(&mut self, seed: &str, flags: &[&str]) {
        let nth = self.members.len();
        let host = IpAddr::from([127, 0, 0, nth as u8 + 1]);
        let peer_address = SocketAddr::new(host, free_port_of(host));
        let dir = self.dir.path().join(nth.to_string());
        let own = [
            ("--cluster-enabled", "yes".to_owned()),
            ("--cluster-secret", "a test".to_owned()),
            ("--seeds", seed.to_owned()),
            ("--node-name", format!("node-{}", nth + 1)),
            ("--peer-bind", host.to_string()),
            ("--peer-port", peer_address.port().to_string()),
            ("--dir", dir.display().to_string()),
        ];
        let own = own
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]);
        let mut member = Member {
            name: format!("node-{}", nth + 1),
            dir,
            server: None,
            address: SocketAddr::new(host, free_port_of(host)),
            peer_address,
            flags: own
                .chain(flags.iter().map(|flag| (*flag).to_owned()))
                .collect(),
        };
        member.start(None);
        self.members.push(member);
    }

    /// A node that does not know the cluster's secret and wants to join.
    pub fn stranger_to(other: &Cluster) -> Server {
        let dir = tempfile::tempdir().expect("a folder");
        let seed = other.members[0].peer_address.to_string();
        let peer_port = free_port().to_string();
        let flags = [
            ("--cluster-enabled", "yes"),
            ("--cluster-secret", "another"),
            ("--seeds", &seed),
            ("--peer-port", &peer_port),
        ];
        let flags: Vec<&str> = flags
            .iter()
            .flat_map(|(name, value)| [*name, *value])
            .collect();
        let server = Server::ringwood(dir.path(), &flags);
        // The folder must outlive the server; it goes with the machine's temporary files.
        std::mem::forget(dir);
        server
    }

    /// What a member replies to a command, on a connection of its own.
    pub fn call(&self, member: usize, args: &[&str]) -> String {
        self.members[member].connect().call(args)
    }

    /// What INFO shows of a field at a member.
    pub fn info(&self, member: usize, field: &str) -> String {
        let text = self.call(member, &["INFO", "everything"]);
        let prefix = format!("{field}:");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = line.unwrap_or_else(|| panic!("INFO shows {field}"));
        value.trim().to_owned()
    }

    /// Waits until every member that runs has joined and finds all the others alive.
    pub fn wait_until_whole(&self) {
        let count = self.members.len();
        let whole = format!("cluster_known_nodes:{count}\r\ncluster_answering_nodes:{count}\r\n");
        for member in self.members.iter().filter(|m| m.server.is_some()) {
            eventually("the cluster is whole", || {
                member.connect().call(&["CLUSTER", "INFO"]).contains(&whole)
            });
        }
    }
}

impl Member {
    /// As a plan names a node that is to join.
    pub fn plan_address(&self) -> String {
        format!("{}@{}", self.address, self.peer_address.port())
    }

    pub fn start(&mut self, clock: Option<&Clock>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwood"));
        let (host, port) = (
            self.address.ip().to_string(),
            self.address.port().to_string(),
        );
        command.args([
            "server",
            "--loglevel",
            "warning",
            "--bind",
            &host,
            "--port",
            &port,
        ]);
        command.args(&self.flags);
        clock.inspect(|clock| clock.rule(&mut command));
        self.server = Some(Server::start(command, self.address));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    pub fn connect(&self) -> Connection {
        self.server.as_ref().expect("it runs").connect()
    }
}

/// Waits for something that must come true; fails after a while.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < START_LIMIT,
            "not within {START_LIMIT:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until so many clients of a node wait for something.
pub fn wait_for_blocked(connection: &mut Connection, count: usize) {
    eventually("clients wait", || {
        let list = connection.call(&["CLIENT", "LIST"]);
        list.matches(" flags=b ").count() == count
    });
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
        build_preloaded("clock", dir.path());
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

/// Builds a small library of the tests' that servers preload.
fn build_preloaded(name: &str, to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/{name}.c"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
    compiler.arg(to.join(format!("{name}.so"))).arg(source);
    assert!(compiler.status().expect("a C compiler").success());
}

/// A disk that may not sync, for servers started upon it.
pub struct Syncs {
    dir: TempDir,
}

impl Syncs {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        build_preloaded("sync", dir.path());
        Self { dir }
    }

    /// One that takes its time.
    pub fn slow(by: Duration) -> Self {
        let disk = Self::new();
        let ms = by.as_millis().to_string();
        std::fs::write(disk.dir.path().join("slow"), ms).expect("a file");
        disk
    }

    pub fn fail(&self, fails: bool) {
        let flag = self.dir.path().join("fails");
        if fails {
            File::create(flag).expect("a file");
        } else {
            std::fs::remove_file(flag).expect("removed");
        }
    }

    /// A node on this disk, which logs to a file.
    pub fn ringwood(&self, dir: &Path, log: File, flags: &[&str]) -> Server {
        let (port, mut command) = Server::command(dir, "notice");
        command.env("LD_PRELOAD", self.dir.path().join("sync.so"));
        command.env("TEST_NO_SYNC", self.dir.path().join("fails"));
        if let Ok(ms) = std::fs::read_to_string(self.dir.path().join("slow")) {
            command.env("TEST_SLOW_SYNC", ms);
        }
        command.args(flags).stderr(log);
        Server::start(command, SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl Server {
    pub fn ringwood(dir: &Path, flags: &[&str]) -> Self {
        Self::ringwood_under(None, dir, flags)
    }

    pub fn ringwood_under(clock: Option<&Clock>, dir: &Path, flags: &[&str]) -> Self {
        let (port, mut command) = Self::command(dir, "warning");
        command.args(flags);
        clock.inspect(|clock| clock.rule(&mut command));
        Self::start(command, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn command(dir: &Path, loglevel: &str) -> (u16, Command) {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwood"));
        command.args(["server", "--port", &port.to_string()]);
        command.args(["--loglevel", loglevel]);
        command.arg("--dir").arg(dir);
        (port, command)
    }

    /// A node whose log goes somewhere, and which says all there is to say.
    pub fn ringwood_logging(dir: &Path, log: impl Into<Stdio>) -> Self {
        let (port, mut command) = Self::command(dir, "notice");
        command.stderr(log);
        Self::start(command, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// A node that may have so many files open.
    pub fn ringwood_with_files(files: usize, dir: &Path, flags: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_ringwood"), "server"]);
        command.args(["--port", &port.to_string(), "--loglevel", "warning"]);
        command.arg("--dir").arg(dir).args(flags);
        Self::start(command, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    pub fn redis(dir: &Path) -> Self {
        Self::redis_ruled(None, dir)
    }

    pub fn redis_under(clock: &Clock, dir: &Path) -> Self {
        Self::redis_ruled(Some(clock), dir)
    }

    fn redis_ruled(clock: Option<&Clock>, dir: &Path) -> Self {
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
        if let Some(clock) = clock {
            clock.rule(&mut command);
        }
        Self::start(command, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn start(mut command: Command, address: SocketAddr) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}; `make test` installs it"));
        let mut server = Self { address, child };
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Some(status) = server.child.try_wait().expect("wait") {
                panic!("{command:?} ended with {status}");
            }
            // A socket that asks a free port of its own range may meet itself.
            let is_there = |stream: TcpStream| {
                let both = (stream.local_addr().ok(), stream.peer_addr().ok());
                both.0.is_some() && both.0 != both.1
            };
            if TcpStream::connect(address).is_ok_and(is_there) {
                return server;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("{command:?} does not answer");
    }

    pub fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    /// A connection, unless it has ended.
    pub fn try_connect(&self) -> Option<Connection> {
        let stream = TcpStream::connect(self.address).ok()?;
        Some(Connection::over(stream))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }

    /// Waits until it has ended, all its threads with it, by a signal that was sent.
    pub fn await_end(&self) {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), how).expect("it ends");
    }

    /// SIGTERM, and whether the end was clean.
    pub fn terminate(mut self) -> bool {
        self.signal("TERM");
        self.child.wait().expect("wait").success()
    }

    /// SIGTERM, and whether it ended in time.
    pub fn ends_when_told(mut self) -> bool {
        self.signal("TERM");
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if self.child.try_wait().expect("wait").is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
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

pub fn free_port() -> u16 {
    free_port_of(IpAddr::from([127, 0, 0, 1]))
}

/// Below the ports that the system gives to outgoing connections: nobody takes it before the server
/// does. Tests that run at the same time begin at different places.
fn free_port_of(host: IpAddr) -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    let begin = std::process::id().wrapping_mul(2_654_435_761);
    for _ in 0..COUNT {
        let nth = begin.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + nth % COUNT) as u16;
        if TcpListener::bind((host, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free on {host}");
}

/// A client connection that sees replies as raw bytes.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("connect"))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(REPLY_LIMIT)).expect("option");
        stream.set_nodelay(true).expect("option");
        Self {
            reader: BufReader::new(stream),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// What cannot be sent soon is not sent.
    pub fn do_not_wait(&mut self) {
        let soon = Some(Duration::from_millis(500));
        let stream = self.reader.get_ref();
        stream.set_write_timeout(soon).expect("option");
    }

    pub fn call(&mut self, args: &[&str]) -> String {
        let args: Vec<Vec<u8>> = args.iter().map(|a| a.as_bytes().to_vec()).collect();
        self.send(&encode(&args)).expect("send");
        String::from_utf8_lossy(&self.reply().expect("a reply")).into_owned()
    }

    /// Sends a command whose words have no blanks; its reply is read later.
    pub fn say(&mut self, line: &str) {
        let words: Vec<Vec<u8>> = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        self.send(&encode(&words)).expect("sent");
    }

    /// One whole reply, or message.
    pub fn hear(&mut self) -> String {
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

/// The bulk strings of a reply, in order.
pub fn bulks(reply: &str) -> Vec<String> {
    let mut lines = reply.split("\r\n");
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with('$') && line != "$-1" {
            out.extend(lines.next().map(str::to_owned));
        }
    }
    out
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
