//! Data under the environment's lock.

use core::ops::{Deref, DerefMut};

use lock_api::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::env::Env;

/// A value under a lock of the environment's kind.
pub(crate) struct EnvLock<E: Env, T>(RwLock<E::Lock, T>);

impl<E: Env, T> EnvLock<E, T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    /// The value, which no other thread has a way to.
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }

    /// Takes the lock shared.
    pub(crate) fn read(&self) -> impl Deref<Target = T> + use<'_, E, T> {
        let guard: RwLockReadGuard<'_, E::Lock, T> = self.0.read();
        guard
    }

    /// Takes the lock exclusively.
    pub(crate) fn write(&self) -> impl DerefMut<Target = T> + use<'_, E, T> {
        let guard: RwLockWriteGuard<'_, E::Lock, T> = self.0.write();
        guard
    }
}
