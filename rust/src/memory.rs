//! The memory of this library: a limit for processes that work on strangers' texts, and a reserve
//! for the others, since a Rust program that gets no memory aborts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

/// The exit codes of a process with a limit that would hold more, and of one to which the system
/// gives no more (lewis_text.h).
const OVER_LIMIT: i32 = 77;
const NO_MEMORY: i32 = 78;

const RESERVE: usize = 16 << 20;

/// The most bytes that this process may hold from now on; 0: any number, and none are counted.
static LIMIT: AtomicI64 = AtomicI64::new(0);
/// What it holds, counted since there is a limit. Such a process has one thread.
static HELD: AtomicI64 = AtomicI64::new(0);

/// Memory for what is under way when the system gives no more; nothing of it is used twice.
struct Reserve(UnsafeCell<[u8; RESERVE]>);
// SAFETY: every byte is handed out to one caller.
unsafe impl Sync for Reserve {}
static MEMORY: Reserve = Reserve(UnsafeCell::new([0; RESERVE]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread has taken from the reserve.
    static RAN_OUT: Cell<bool> = const { Cell::new(false) };
}

/// From now on this process ends with OVER_LIMIT as soon as it would hold `more` bytes beside those
/// that it holds when it first sets a limit. Only for a process with one thread.
pub fn limit(more: u64) {
    LIMIT.store(i64::try_from(more).unwrap_or(i64::MAX).max(1), Relaxed);
}

/// True once after this thread has taken from the reserve: what it did meanwhile is to be given up.
pub fn ran_out() -> bool {
    RAN_OUT.replace(false)
}

pub struct Memory;

/// Counts `more` bytes, where there is a limit.
#[inline]
fn count(more: i64) {
    let limit = LIMIT.load(Relaxed);
    if limit == 0 {
        return;
    }
    let held = HELD.load(Relaxed) + more;
    if held > limit && more > 0 {
        // SAFETY: ends the process, without its destructors.
        unsafe { libc::_exit(OVER_LIMIT) };
    }
    HELD.store(held, Relaxed);
}

#[cold]
fn from_reserve(layout: Layout) -> *mut u8 {
    if LIMIT.load(Relaxed) != 0 {
        // SAFETY: ends the process, without its destructors.
        unsafe { libc::_exit(NO_MEMORY) };
    }
    RAN_OUT.set(true);
    let room = layout.size().saturating_add(layout.align());
    let taken = TAKEN.fetch_update(Relaxed, Relaxed, |taken| {
        taken.checked_add(room).filter(|end| *end <= RESERVE)
    });
    match taken {
        Ok(begin) => {
            let start = MEMORY.0.get() as usize + begin;
            start.next_multiple_of(layout.align()) as *mut u8
        }
        Err(_) => std::ptr::null_mut(),
    }
}

fn is_reserve(memory: *mut u8) -> bool {
    (memory as usize).wrapping_sub(MEMORY.0.get() as usize) < RESERVE
}

// SAFETY: System's memory is System's, and bytes of the reserve are handed out once and never
// freed.
unsafe impl GlobalAlloc for Memory {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        let memory = System.alloc(layout);
        if memory.is_null() { from_reserve(layout) } else { memory }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        let memory = System.alloc_zeroed(layout);
        if memory.is_null() { from_reserve(layout) } else { memory }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_reserve(memory) {
            return;
        }
        count(-(layout.size() as i64));
        System.dealloc(memory, layout);
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_reserve(memory) {
            count(size as i64 - layout.size() as i64);
            let grown = System.realloc(memory, layout, size);
            if !grown.is_null() {
                return grown;
            }
        }
        let grown = from_reserve(Layout::from_size_align_unchecked(size, layout.align()));
        if !grown.is_null() {
            std::ptr::copy_nonoverlapping(memory, grown, layout.size().min(size));
            self.dealloc(memory, layout);
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_handed_out_once() {
        let layout = Layout::from_size_align(100, 64).unwrap();
        let (a, b) = (from_reserve(layout), from_reserve(layout));
        assert!(is_reserve(a) && is_reserve(b) && a as usize % 64 == 0);
        assert!((b as usize) - (a as usize) >= 100);
        let huge = Layout::from_size_align(RESERVE + 1, 1).unwrap();
        assert!(from_reserve(huge).is_null());
        assert!(ran_out() && !ran_out());
        // SAFETY: the memory came from the reserve.
        unsafe {
            a.write_bytes(7, 100);
            let grown = Memory.realloc(a, layout, 200);
            assert!(is_reserve(grown) && grown.add(99).read() == 7);
            Memory.dealloc(grown, Layout::from_size_align(200, 64).unwrap());
        }
        assert!(ran_out());
    }
}
