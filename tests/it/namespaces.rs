//! Machines of their own: network namespaces, each with a cable that can be pulled.
//!
//! Everything is inside namespaces, nothing in the network of the machine that runs the tests.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Some machines on one switch. Gone when dropped.
pub struct Machines {
    name: String,
    count: usize,
}

impl Machines {
    /// `None` where namespaces cannot be made; the reason is printed.
    pub fn new(count: usize) -> Option<Self> {
        let name = format!("ringwood{}", std::process::id());
        let machines = Self { name, count };
        match machines.wire_up() {
            Ok(()) => Some(machines),
            Err(reason) => {
                println!("skipped: network namespaces cannot be made here: {reason}");
                None
            }
        }
    }

    fn wire_up(&self) -> Result<(), String> {
        let switch = self.switch();
        ip(&["netns", "add", &switch])?;
        ip(&[
            "-n",
            &switch,
            "link",
            "add",
            "switch",
            "type",
            "bridge",
            "stp_state",
            "0",
        ])?;
        ip(&["-n", &switch, "link", "set", "switch", "up"])?;
        for nth in 0..self.count {
            let (machine, port) = (self.machine(nth), port(nth));
            let address = format!("{}/24", Self::address(nth));
            ip(&["netns", "add", &machine])?;
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "cable",
                "netns", &machine,
            ])?;
            ip(&[
                "-n", &switch, "link", "set", &port, "master", "switch", "up",
            ])?;
            ip(&["-n", &machine, "link", "set", "lo", "up"])?;
            ip(&["-n", &machine, "addr", "add", &address, "dev", "cable"])?;
            ip(&["-n", &machine, "link", "set", "cable", "up"])?;
        }
        Ok(())
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn machine(&self, nth: usize) -> String {
        format!("{}-{nth}", self.name)
    }

    /// Where the others reach a machine.
    pub fn address(nth: usize) -> String {
        format!("10.0.0.{}", nth + 1)
    }

    /// Runs something on a machine: what it connects to and what it starts is there too.
    pub fn on<R: Send>(&self, nth: usize, does: impl FnOnce() -> R + Send) -> R {
        let place = File::open(format!("/var/run/netns/{}", self.machine(nth)));
        let place = place.expect("the namespace was made");
        std::thread::scope(|scope| {
            let moved = scope.spawn(move || {
                move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("into the namespace");
                does()
            });
            moved.join().expect("no panic there")
        })
    }

    /// Pulls a machine's cable.
    pub fn unplug(&self, nth: usize) {
        ip(&["-n", &self.switch(), "link", "set", &port(nth), "down"]).expect("unplugged");
    }

    pub fn plug_in(&self, nth: usize) {
        ip(&["-n", &self.switch(), "link", "set", &port(nth), "up"]).expect("plugged in");
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let machines = (0..self.count).map(|nth| self.machine(nth));
        for namespace in machines.chain([self.switch()]) {
            let _ = ip(&["netns", "del", &namespace]);
        }
    }
}

fn port(nth: usize) -> String {
    format!("port{nth}")
}

fn ip(args: &[&str]) -> Result<(), String> {
    let ran = Command::new("ip").args(args).output();
    let output = ran.map_err(|e| format!("ip: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("ip {}: {}", args.join(" "), said.trim()))
    }
}
