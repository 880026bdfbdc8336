//! What the shootdowns ask of a kernel's processors.

/// The CPUs of a machine, numbered from 0 up, at most [`MAX_CPUS`](crate::MAX_CPUS).
pub trait Cpus: Sync {
    /// Number of the CPU that calls.
    fn this_cpu(&self) -> usize;

    /// Sends CPU `cpu` an interrupt whose handler calls [`Rounds::answer`](crate::Rounds::answer).
    #[doc(alias = "IPI")]
    fn send_ipi(&self, cpu: usize);

    /// Drops every translation of users' addresses that this CPU has. On x86-64 that is a load of
    /// CR3 with its own value, as long as users' leaves are not global.
    #[doc(alias = "TLB")]
    fn flush_all(&self);

    /// Drops this CPU's translations of `pages` pages of 4 KiB from `address` on. What is here
    /// drops all; a kernel may have a faster way for a few.
    fn flush(&self, address: u64, pages: u64) {
        let (_, _) = (address, pages);
        self.flush_all();
    }

    /// Turns interrupts off on this CPU; says whether they were on.
    #[doc(alias = "local_irq_save")]
    fn interrupts_off(&self) -> bool;

    /// Turns interrupts on on this CPU.
    #[doc(alias = "local_irq_enable")]
    fn interrupts_on(&self);

    /// Called in each turn of a loop that waits for another CPU.
    fn relax(&self) {
        core::hint::spin_loop();
    }
}

/// Interrupts are off on this CPU until this is dropped; then they are as they were.
pub struct InterruptsOff<'c, C: Cpus + ?Sized> {
    cpus: &'c C,
    were_on: bool,
}

impl<'c, C: Cpus + ?Sized> InterruptsOff<'c, C> {
    /// Turns them off.
    pub fn new(cpus: &'c C) -> Self {
        Self { cpus, were_on: cpus.interrupts_off() }
    }
}

impl<C: Cpus + ?Sized> Drop for InterruptsOff<'_, C> {
    fn drop(&mut self) {
        if self.were_on {
            self.cpus.interrupts_on();
        }
    }
}
