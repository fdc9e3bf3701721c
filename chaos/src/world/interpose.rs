//! libc's clock and randomness, taken over while a simulation runs.
//!
//! What the node's dependencies read past `Env` cannot be handed to them: h2 reads `Instant`, hyper `SystemTime`, `std`
//! draws the keys of its hash maps, tokio its choices, ring its nonces. All of them end in three symbols of libc. This
//! program defines the symbols itself; the linker prefers them. On a thread that called [`take_over`] they answer from
//! the seed; everywhere else they pass on to the kernel.
//!
//! After mad-turmoil and madsim, which do the same; these here can be switched, and cover the plain `syscall` that
//! ring's `getrandom` 0.2 goes through.

#![expect(unsafe_code, reason = "symbols of libc can be defined and called in no other way")]
#![expect(
    clippy::many_single_char_names,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "a system call has six arguments without names, each as wide as a pointer"
)]

use std::{
    arch::asm,
    cell::Cell,
    ffi::{c_int, c_long, c_uint, c_ulong, c_void},
    io,
    os::unix::process::CommandExt,
    process::Command,
    time::Duration,
};

use libc::{clockid_t, timespec};

use super::clock::EPOCH;

/// What a monotonic clock shows when a simulation begins. Not zero: programs subtract from it.
const MONOTONIC_START: Duration = Duration::from_secs(1_000_000);

thread_local! {
    /// The state of splitmix64.
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
    static CLOCK: Cell<Option<fn() -> u64>> = const { Cell::new(None) };
}

/// From here on this thread's randomness comes from `seed` and its clocks show `nanoseconds` since the beginning.
pub fn take_over(seed: u64, nanoseconds: fn() -> u64) {
    RANDOM.set(Some(seed));
    CLOCK.set(Some(nanoseconds));
}

/// The kernel answers this thread again.
pub fn give_back() {
    RANDOM.set(None);
    CLOCK.set(None);
}

/// The machine's own monotonic clock, whether taken over or not: for speed.
pub fn real_time() -> Duration {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    let clock = c_long::from(libc::CLOCK_MONOTONIC);
    // SAFETY: the kernel fills in the `timespec` that it is given.
    let _ = unsafe { enter_kernel(libc::SYS_clock_gettime, [clock, &raw mut time as c_long, 0, 0, 0, 0]) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Starts this program again with the same arguments and without address space randomisation, unless that is off:
/// addresses take part in some hashes. Where the system forbids it (some containers), the program goes on as it is.
pub fn without_address_randomisation() {
    const ASK: c_ulong = 0xffff_ffff;
    // SAFETY: `personality` takes and returns numbers.
    let now = unsafe { libc::personality(ASK) };
    if now < 0 || now & libc::ADDR_NO_RANDOMIZE != 0 {
        return;
    }
    let wanted = c_ulong::try_from(now | libc::ADDR_NO_RANDOMIZE).unwrap_or(ASK);
    // SAFETY: as above.
    if unsafe { libc::personality(wanted) } < 0 || unsafe { libc::personality(ASK) } & libc::ADDR_NO_RANDOMIZE == 0 {
        return;
    }
    let failed: io::Error = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
    tracing::warn!(error = %failed, "address randomisation stays on: two runs of a seed may differ");
}

/// Leaves the process at once: the destructors of a simulation belong to a world that has ended.
pub fn leave(code: u8) -> ! {
    // SAFETY: does not return; what had to be written is flushed by the caller.
    unsafe { libc::_exit(c_int::from(code)) }
}

/// Fills the buffer from the seed, if this thread is taken over.
///
/// # Safety
/// `buffer` must be valid for `len` bytes.
unsafe fn fill(buffer: *mut u8, len: usize) -> bool {
    let Ok(Some(mut state)) = RANDOM.try_with(Cell::get) else {
        return false;
    };
    // SAFETY: the caller's promise.
    let out = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
    for chunk in out.chunks_mut(8) {
        let word = super::chance::splitmix(&mut state).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    RANDOM.set(Some(state));
    true
}

/// # Safety
/// As for libc's function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: usize, flags: c_uint) -> isize {
    // SAFETY: our caller's promise, passed on.
    if unsafe { fill(buffer.cast(), len) } {
        return len.cast_signed();
    }
    let arguments = [buffer as c_long, len as c_long, c_long::from(flags), 0, 0, 0];
    // SAFETY: our caller's promise, passed on.
    unsafe { with_errno(enter_kernel(libc::SYS_getrandom, arguments)) as isize }
}

/// # Safety
/// As for libc's function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let base = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(EPOCH),
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_BOOTTIME => {
            Some(MONOTONIC_START)
        }
        _ => None,
    };
    if let (Some(base), Ok(Some(now))) = (base, CLOCK.try_with(Cell::get)) {
        let shown = base + Duration::from_nanos(now());
        let shown = timespec {
            tv_sec: shown.as_secs().cast_signed(),
            tv_nsec: i64::from(shown.subsec_nanos()),
        };
        // SAFETY: our caller's promise that `time` can be written.
        unsafe { time.write(shown) };
        return 0;
    }
    // SAFETY: our caller's promise, passed on.
    let result = unsafe {
        enter_kernel(
            libc::SYS_clock_gettime,
            [c_long::from(clock), time as c_long, 0, 0, 0, 0],
        )
    };
    // SAFETY: sets this thread's errno.
    c_int::from(unsafe { with_errno(result) } != 0).wrapping_neg()
}

/// libc's is variadic; on the platforms below whole numbers arrive in the same registers.
///
/// # Safety
/// As for libc's function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    // SAFETY: our caller's promise, passed on.
    if number == libc::SYS_getrandom && unsafe { fill(a as *mut u8, b.cast_unsigned() as usize) } {
        return b;
    }
    // SAFETY: our caller's promise, passed on.
    unsafe { with_errno(enter_kernel(number, [a, b, c, d, e, f])) }
}

/// What libc makes of the kernel's answer.
///
/// # Safety
/// Sets this thread's errno, which always exists.
unsafe fn with_errno(result: c_long) -> c_long {
    if !(-4_095..0).contains(&result) {
        return result;
    }
    let code = c_int::try_from(-result).unwrap_or(libc::EINVAL);
    // SAFETY: the pointer is to this thread's own errno.
    unsafe { *libc::__errno_location() = code };
    -1
}

/// # Safety
/// As for the system call with this number.
#[cfg(target_arch = "x86_64")]
unsafe fn enter_kernel(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let result;
    // SAFETY: the kernel's calling convention; the caller promises the rest.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// # Safety
/// As for the system call with this number.
#[cfg(target_arch = "aarch64")]
unsafe fn enter_kernel(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let result;
    // SAFETY: the kernel's calling convention; the caller promises the rest.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack)
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the simulator knows how to enter the kernel on x86_64 and aarch64");

#[cfg(test)]
mod tests {
    use std::{collections::hash_map::RandomState, hash::BuildHasher, thread};

    use super::*;

    /// What a fresh thread draws and sees.
    #[expect(clippy::disallowed_methods, reason = "the doors that are taken over")]
    fn look(seed: Option<u64>) -> (u64, u64, Option<Duration>) {
        let look = move || {
            if let Some(seed) = seed {
                take_over(seed, || 5_000_000_000);
            }
            let mut ring = [0_u8; 8];
            // SAFETY: eight bytes are there; this is the way that getrandom 0.2 goes.
            unsafe { libc::syscall(libc::SYS_getrandom, ring.as_mut_ptr(), ring.len(), 0) };
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok();
            (RandomState::new().hash_one(1), u64::from_le_bytes(ring), now)
        };
        thread::spawn(look).join().unwrap()
    }

    #[test]
    fn a_thread_that_is_taken_over_draws_from_the_seed_and_sees_the_simulated_time() {
        assert_eq!(look(Some(7)), look(Some(7)));
        assert_ne!(look(Some(7)).0, look(Some(8)).0);
        assert_ne!(look(Some(7)).1, look(Some(8)).1);
        assert_eq!(look(Some(7)).2, Some(EPOCH + Duration::from_secs(5)));
    }

    #[test]
    fn other_threads_keep_the_kernels_randomness_and_clock() {
        assert_ne!(look(None).1, look(None).1);
        assert_ne!(look(None).2.unwrap().as_secs(), EPOCH.as_secs() + 5);
    }
}
