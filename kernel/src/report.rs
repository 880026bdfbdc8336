//! The report on the serial port, a line at a time. `tailpin boot` reads the lines that begin with
//! a keyword:
//!
//! ```text
//! tailpin cpus=2 memory=267911168 scenarios=17
//! run walks
//! note  3 faults for 2048 pages
//! pass walks mcycles=12 rounds=0
//! fail rights mcycles=12 rounds=2: a read-only page was written
//! end passed=16 failed=1
//! ```

use core::fmt::{Arguments, Write};

use crate::cpus::this_cpu;
use crate::machine::{self, Serial};

static PRINTING: spin::Mutex<()> = spin::Mutex::new(());

/// Prints a line.
pub(crate) fn print(line: Arguments<'_>) {
    machine::without_interrupts(|| {
        let _alone = PRINTING.lock();
        // The port takes everything.
        let _ = Serial.write_fmt(format_args!("{line}\n"));
    });
}

/// Prints a line of the report.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::report::print(format_args!($($part)*)) };
}

/// Prints what a scenario found out.
#[macro_export]
macro_rules! note {
    ($($part:tt)*) => { $crate::report::print(format_args!("note  {}", format_args!($($part)*))) };
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let (at, why) = (info.location(), info.message());
    // Without the lock, which this CPU may hold.
    let _ = match at {
        Some(at) => Serial.write_fmt(format_args!("\npanic on CPU {} at {at}: {why}\n", this_cpu())),
        None => Serial.write_fmt(format_args!("\npanic on CPU {}: {why}\n", this_cpu())),
    };
    machine::exit(3)
}
