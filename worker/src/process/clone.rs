//! Starting a process inside its cgroup with one system call: the one place of the product with unsafe code.
//!
//! The standard library can start a process cheaply (`posix_spawn`) but not in a cgroup; a process that joins by
//! itself first costs a second program per try, and one that is moved by its parent may have forked before.
//! `clone3` with `CLONE_INTO_CGROUP` has neither fault. Like `posix_spawn` it borrows the parent's memory
//! (`CLONE_VM | CLONE_VFORK`), so the cost does not grow with the worker.
//!
//! # Why this is sound
//! - The child runs on a stack of its own and only [`child`], which allocates nothing, locks nothing, cannot
//!   panic and calls only async-signal-safe functions. Its thread in the parent sleeps until the child has
//!   executed its program or ended, so everything that [`Plan`] points to outlives its use.
//! - All signals are blocked around the call, and `CLONE_CLEAR_SIGHAND` gives the child default handlers, so no
//!   handler of the parent ever runs in the child on shared memory.
//! - Descriptors are copied, not shared: what the child does to its own leaves the parent's alone.
#![expect(unsafe_code, reason = "the one reviewed module: no safe interface starts a process in a cgroup")]

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use tokio::io::{Interest, unix::AsyncFd};

/// Flags of `clone3` (`linux/sched.h`).
const CLONE_VM: u64 = 0x100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Flag of `close_range`: closed when the program is executed (`linux/close_range.h`).
const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
/// The child needs some hundred bytes; the dynamic linker, when it binds late, some thousand.
const STACK_BYTES: usize = 64 * 1024;

/// What to execute and how. Descriptors must be above the three standard ones.
pub(super) struct Order<'a> {
    pub(super) program: &'a CString,
    pub(super) argv: &'a [CString],
    pub(super) env: &'a [CString],
    pub(super) folder: &'a CString,
    pub(super) stdin: BorrowedFd<'a>,
    /// Both output streams.
    pub(super) log: BorrowedFd<'a>,
    pub(super) cgroup: Option<BorrowedFd<'a>>,
}

/// Why there is no process.
#[derive(Debug)]
pub(super) enum StartError {
    /// `clone3` did not make one: an old kernel, a filter of system calls, a limit.
    Clone(io::Error),
    /// It was made and could not become the program.
    Exec(io::Error),
}

/// `struct clone_args`, version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What the child reads, and the one field that it writes.
struct Plan {
    program: *const libc::c_char,
    argv: *const *const libc::c_char,
    env: *const *const libc::c_char,
    folder: *const libc::c_char,
    stdin: libc::c_int,
    log: libc::c_int,
    signals: libc::sigset_t,
    /// The error number of the step that failed, 0 while none did.
    error: libc::c_int,
}

/// Starts a process in a process group of its own. Returns its number and a descriptor of it.
///
/// # Errors
/// [`StartError`].
pub(super) fn start(order: &Order<'_>) -> Result<(i32, OwnedFd), StartError> {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(order.argv), pointers(order.env));
    let mut stack: Vec<u128> = vec![0; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: libc::c_int = -1;
    let mut plan = Plan {
        program: order.program.as_ptr(),
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        folder: order.folder.as_ptr(),
        stdin: order.stdin.as_raw_fd(),
        log: order.log.as_raw_fd(),
        // SAFETY: a set of signals is plain bits; all zero is the empty set on Linux.
        signals: unsafe { std::mem::zeroed() },
        error: 0,
    };
    let into = order.cgroup.map_or(0, |_| CLONE_INTO_CGROUP);
    let arguments = CloneArgs {
        flags: CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | into,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        stack: stack.as_mut_ptr() as u64,
        stack_size: (stack.len() * size_of::<u128>()) as u64,
        cgroup: order.cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
        ..CloneArgs::default()
    };
    // SAFETY: both sets are valid; the mask of this thread is put back below.
    let blocked = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    };
    // SAFETY: see the head of this module. `arguments`, `plan`, `stack` and what they point to live beyond the
    // call, which returns only when the child no longer uses this memory.
    let result = unsafe { clone3(&raw const arguments, &raw mut plan) };
    // SAFETY: `blocked` is the mask that this thread had.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const blocked, ptr::null_mut()) };
    if result < 0 {
        let number = i32::try_from(-result).unwrap_or(libc::EINVAL);
        return Err(StartError::Clone(io::Error::from_raw_os_error(number)));
    }
    // SAFETY: the kernel wrote a new descriptor there, and nobody else owns it.
    let handle = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(result).unwrap_or(0);
    // The child wrote it through its own view of this memory.
    // SAFETY: a plain integer that nobody writes any more.
    let error = unsafe { ptr::read_volatile(&raw const plan.error) };
    if error == 0 {
        return Ok((pid, handle));
    }
    // It has ended with 127 already; somebody must read that.
    let _ =
        rustix::process::waitpid(rustix::process::Pid::from_raw(pid), rustix::process::WaitOptions::empty());
    Err(StartError::Exec(io::Error::from_raw_os_error(error)))
}

/// Lets the runtime notice the end of a process. Must run inside the runtime.
pub(super) fn watch(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor stays open and the same for as long as it is registered, since an `OwnedFd` is its
    // only owner and nobody takes it out.
    Ok(unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }?)
}

/// The system call. The child starts on its new stack, so it must not return through this frame: it calls
/// [`child`], which never returns.
///
/// # Safety
/// As for [`start`]: the arguments and the plan must stay valid until it returns.
unsafe fn clone3(arguments: *const CloneArgs, plan: *mut Plan) -> i64 {
    let result: i64;
    // SAFETY: in the parent only the three registers change that a system call may change. In the child nothing
    // of this frame is used: the plan travels in a register that the kernel keeps.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") plan,
            in("r13") child as unsafe extern "C" fn(*mut Plan) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// The life of the child until it is the program.
///
/// # Safety
/// Runs in the child only, on its own stack, with a valid plan.
unsafe extern "C" fn child(plan: *mut Plan) -> ! {
    // SAFETY: the plan and what it points to are valid for the life of this function, and each of these
    // functions is async-signal-safe.
    unsafe {
        let plan = &mut *plan;
        // What the worker itself inherited (a lock of whoever started it, a pipe) is not the task's. A kernel that
        // does not know the call leaves it as it was.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC);
        let is_ready = libc::setpgid(0, 0) == 0
            && libc::chdir(plan.folder) == 0
            && libc::dup2(plan.stdin, 0) >= 0
            && libc::dup2(plan.log, 1) >= 0
            && libc::dup2(plan.log, 2) >= 0
            // Ignored in the parent, and what is ignored stays so over an exec.
            && libc::signal(libc::SIGPIPE, libc::SIG_DFL) != libc::SIG_ERR
            && libc::sigprocmask(libc::SIG_SETMASK, &raw const plan.signals, ptr::null_mut()) == 0;
        if is_ready {
            libc::execve(plan.program, plan.argv, plan.env);
        }
        plan.error = *libc::__errno_location();
        libc::_exit(127)
    }
}
