//! The functions of the C library that write, sync and name files.

use std::ffi::CStr;

use libc::{c_char, c_int, c_long, c_uint, c_void, iovec, mode_t, off_t, size_t, ssize_t};

use crate::disk::{Disk, Syncing, Unnamed, die, disk};
use crate::sys::{call, once_inside, refuse, stat_at};

/// Asks the disk, unless it is the disk that asks.
fn with<T>(work: impl FnOnce(&Disk) -> T) -> Option<T> {
    once_inside(|| disk().map(work)).flatten()
}

/// A write: refused, or done and noted.
fn writing(fd: c_int, begin: Option<off_t>, write: impl FnOnce() -> c_long) -> ssize_t {
    if let Some(reason) = with(|disk| disk.refuses_write(fd)).flatten() {
        return refuse(reason) as ssize_t;
    }
    let written = write();
    if written > 0 {
        with(|disk| disk.wrote(fd, written.cast_unsigned(), begin.map(i64::cast_unsigned)));
    }
    written as ssize_t
}

/// A sync: swallowed, refused, or done and noted.
fn syncing(fd: c_int, sync: impl FnOnce() -> c_long) -> c_int {
    match with(|disk| disk.begin_sync(fd)) {
        Some(Syncing::Swallowed) => 0,
        Some(Syncing::Fails(reason)) => refuse(reason) as c_int,
        None => sync() as c_int,
        Some(begun) => {
            let done = sync() as c_int;
            if done == 0 {
                with(|disk| disk.end_sync(fd, begun));
            }
            done
        }
    }
}

/// Another change of a file's contents.
fn changing(fd: c_int, change: impl FnOnce() -> c_long) -> c_int {
    if let Some(reason) = with(|disk| disk.refuses_write(fd)).flatten() {
        return refuse(reason) as c_int;
    }
    let done = change() as c_int;
    if done == 0 {
        with(|disk| disk.changed(fd));
    }
    done
}

/// A call that takes away the name `path`, or gives it to another file.
fn unnaming(directory: c_int, path: *const c_char, how: Unnamed, unname: impl FnOnce() -> c_long) -> c_int {
    // SAFETY: the caller's path ends with a zero byte.
    let path = unsafe { CStr::from_ptr(path) };
    let before = once_inside(|| stat_at(directory, path)).flatten();
    let done = unname() as c_int;
    if done == 0 {
        with(|disk| before.inspect(|before| disk.unnamed(before, path, how)));
    }
    done
}

fn opening(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's path ends with a zero byte.
    let name = unsafe { CStr::from_ptr(path) };
    if let Some(reason) = with(|disk| disk.refuses_open(directory, name, flags)).flatten() {
        return refuse(reason) as c_int;
    }
    let fd = call!(libc::SYS_openat, directory, path, flags, c_uint::from(mode)) as c_int;
    if fd >= 0 && flags & libc::O_TRUNC != 0 {
        with(|disk| disk.changed(fd));
    }
    fd
}

/// Defines functions of the C library, under each of their names.
macro_rules! hooks {
    ($(fn [$($name:ident)+] $arguments:tt -> $result:ty $body:block)*) => {
        $(hooks!(@each [$($name)+] $arguments -> $result $body);)*
    };
    (@each [$($name:ident)+] $arguments:tt -> $result:ty $body:block) => {
        $(hooks!(@one $name $arguments -> $result $body);)+
    };
    (@one $name:ident ($($argument:ident: $type:ty),*) -> $result:ty $body:block) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result $body
    };
}

hooks! {
    fn [write](fd: c_int, from: *const c_void, bytes: size_t) -> ssize_t {
        writing(fd, None, || call!(libc::SYS_write, fd, from, bytes))
    }
    fn [writev](fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        writing(fd, None, || call!(libc::SYS_writev, fd, parts, count))
    }
    fn [pwrite pwrite64](fd: c_int, from: *const c_void, bytes: size_t, at: off_t) -> ssize_t {
        writing(fd, Some(at), || call!(libc::SYS_pwrite64, fd, from, bytes, at))
    }
    fn [pwritev pwritev64](fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
        writing(fd, Some(at), || call!(libc::SYS_pwritev, fd, parts, count, at, 0))
    }
    fn [pwritev2 pwritev64v2](fd: c_int, parts: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t {
        let begin = (at >= 0).then_some(at);
        let written = writing(fd, begin, || call!(libc::SYS_pwritev2, fd, parts, count, at, 0, flags));
        if written > 0 && flags & libc::RWF_DSYNC != 0 {
            with(|disk| disk.synced_by_itself(fd));
        }
        written
    }
    fn [fsync](fd: c_int) -> c_int {
        syncing(fd, || call!(libc::SYS_fsync, fd))
    }
    fn [fdatasync](fd: c_int) -> c_int {
        syncing(fd, || call!(libc::SYS_fdatasync, fd))
    }
    fn [ftruncate ftruncate64](fd: c_int, bytes: off_t) -> c_int {
        changing(fd, || call!(libc::SYS_ftruncate, fd, bytes))
    }
    fn [truncate truncate64](path: *const c_char, bytes: off_t) -> c_int {
        let fd = call!(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_WRONLY | libc::O_CLOEXEC, 0) as c_int;
        if fd < 0 {
            return fd;
        }
        let done = changing(fd, || call!(libc::SYS_ftruncate, fd, bytes));
        let errno = crate::sys::errno();
        call!(libc::SYS_close, fd);
        crate::sys::set_errno(errno);
        done
    }
    fn [fallocate fallocate64](fd: c_int, how: c_int, at: off_t, bytes: off_t) -> c_int {
        let allocate = || call!(libc::SYS_fallocate, fd, how, at, bytes);
        if how == libc::FALLOC_FL_KEEP_SIZE { allocate() as c_int } else { changing(fd, allocate) }
    }
    fn [posix_fallocate posix_fallocate64](fd: c_int, at: off_t, bytes: off_t) -> c_int {
        if changing(fd, || call!(libc::SYS_fallocate, fd, 0, at, bytes)) == 0 { 0 } else { crate::sys::errno() }
    }
    fn [open open64](path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        opening(libc::AT_FDCWD, path, flags, mode)
    }
    fn [openat openat64](directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        opening(directory, path, flags, mode)
    }
    fn [creat creat64](path: *const c_char, mode: mode_t) -> c_int {
        opening(libc::AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
    }
    fn [rename](old: *const c_char, new: *const c_char) -> c_int {
        unnaming(libc::AT_FDCWD, new, Unnamed::Replaced, || call!(libc::SYS_renameat, libc::AT_FDCWD, old, libc::AT_FDCWD, new))
    }
    fn [renameat](from: c_int, old: *const c_char, to: c_int, new: *const c_char) -> c_int {
        unnaming(to, new, Unnamed::Replaced, || call!(libc::SYS_renameat, from, old, to, new))
    }
    fn [renameat2](from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_uint) -> c_int {
        unnaming(to, new, Unnamed::Replaced, || call!(libc::SYS_renameat2, from, old, to, new, flags))
    }
    fn [unlink](path: *const c_char) -> c_int {
        unnaming(libc::AT_FDCWD, path, Unnamed::Removed, || call!(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0))
    }
    fn [unlinkat](directory: c_int, path: *const c_char, flags: c_int) -> c_int {
        unnaming(directory, path, Unnamed::Removed, || call!(libc::SYS_unlinkat, directory, path, flags))
    }
    fn [rmdir](path: *const c_char) -> c_int {
        unnaming(libc::AT_FDCWD, path, Unnamed::Removed, || call!(libc::SYS_unlinkat, libc::AT_FDCWD, path, libc::AT_REMOVEDIR))
    }
    fn [mmap mmap64](at: *mut c_void, bytes: size_t, how: c_int, flags: c_int, fd: c_int, from: off_t) -> *mut c_void {
        let shared = flags & libc::MAP_TYPE != libc::MAP_PRIVATE && how & libc::PROT_WRITE != 0;
        if shared && fd >= 0 && with(|disk| disk.is_mapped_unseen(fd)) == Some(true) {
            die("a file was mapped for writing, which this disk cannot see");
        }
        call!(libc::SYS_mmap, at, bytes, how, flags, fd, from) as *mut c_void
    }
}
