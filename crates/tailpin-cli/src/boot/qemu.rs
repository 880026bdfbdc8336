//! One run of a machine: QEMU as a child, its serial port read line by line, and never longer than
//! it is given.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";

/// The status that the kernel ends QEMU with when all is well: `isa-debug-exit` makes 33 of 0x10.
const ALL_WELL: i32 = 33;

/// A machine to boot.
pub(super) struct Machine<'m> {
    pub(super) image: &'m Path,
    pub(super) cpus: u32,
    pub(super) memory_mib: u64,
    /// The kernel's command line, besides `cpus=`.
    pub(super) words: String,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The kernel said that all is well.
    Well,
    /// The kernel said that something is wrong.
    Wrong,
    /// The processor reset: QEMU ended without a word of the kernel's.
    Reset,
    /// QEMU ended otherwise.
    Broke,
    /// It said nothing for too long, and was stopped.
    Silent,
    /// It took too long, and was stopped.
    TooLong,
}

impl End {
    fn of(status: Option<i32>) -> Self {
        match status {
            Some(ALL_WELL) => Self::Well,
            Some(0) => Self::Reset,
            // 2 * code + 1, for the codes that the kernel has.
            Some(3 | 7) => Self::Wrong,
            _ => Self::Broke,
        }
    }

    /// What it is, for a line that is complained.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Well => "the kernel ended well",
            Self::Wrong => "the kernel ended because something is wrong",
            Self::Reset => "the processor reset",
            Self::Broke => "QEMU could not go on",
            Self::Silent => "nothing was heard of the kernel for too long",
            Self::TooLong => "it took too long",
        }
    }
}

/// How long a machine is waited for.
pub(super) struct Limits {
    /// Between two lines.
    pub(super) silence: Duration,
    /// In all.
    pub(super) total: Duration,
}

/// Whether QEMU is installed.
pub(super) fn is_installed() -> bool {
    Command::new(QEMU)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Ends QEMU however its run is left.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Refused where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots a machine and hands each line to `line`.
pub(super) fn boot(machine: &Machine<'_>, limits: &Limits, mut line: impl FnMut(&str)) -> io::Result<End> {
    let mut qemu = Command::new(QEMU);
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", &machine.cpus.to_string()])
        .args(["-m", &machine.memory_mib.to_string()])
        .arg("-kernel")
        .arg(machine.image)
        .args(["-append", &format!("cpus={} {}", machine.cpus, machine.words)])
        .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-net", "none", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = Killed(qemu.spawn()?);
    let output = child.0.stdout.take().expect("it is piped");
    let (sender, lines) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        for bytes in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                return;
            }
        }
    })?;
    let start = Instant::now();
    loop {
        let left = limits.total.saturating_sub(start.elapsed());
        match lines.recv_timeout(limits.silence.min(left)) {
            Ok(text) => line(&text),
            Err(RecvTimeoutError::Disconnected) => return Ok(End::of(child.0.wait()?.code())),
            Err(RecvTimeoutError::Timeout) if start.elapsed() >= limits.total => return Ok(End::TooLong),
            Err(RecvTimeoutError::Timeout) => return Ok(End::Silent),
        }
    }
}
