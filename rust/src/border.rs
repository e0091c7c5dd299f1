//! What crosses the C border: strings and ids that C owns, errors, and panics turned into errors.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use crate::memory;

/// The error of a function that the system gave too little memory (lewis_text.h).
const OUT_OF_MEMORY: &str = "out of memory";

/// LewisText: bytes that the caller frees with lewis_text_free.
#[repr(C)]
pub struct Text {
    data: *mut u8,
    size: usize,
}

/// LewisIds: ids that the caller frees with lewis_ids_free.
#[repr(C)]
pub struct Ids {
    data: *mut u32,
    size: usize,
}

impl Text {
    pub fn new(text: String) -> Text {
        let (data, size) = give(text.into_bytes());
        Text { data, size }
    }

    /// # Safety
    /// `self` came from `new` and is freed once.
    pub unsafe fn free(self) {
        take_slice(self.data, self.size);
    }
}

impl Ids {
    pub fn new(ids: Vec<u32>) -> Ids {
        let (data, size) = give(ids);
        Ids { data, size }
    }

    /// # Safety
    /// `self` came from `new` and is freed once.
    pub unsafe fn free(self) {
        take_slice(self.data, self.size);
    }
}

fn give<T>(values: Vec<T>) -> (*mut T, usize) {
    if values.is_empty() {
        return (std::ptr::null_mut(), 0);
    }
    let values = values.into_boxed_slice();
    let size = values.len();
    (Box::into_raw(values) as *mut T, size)
}

unsafe fn take_slice<T>(data: *mut T, size: usize) {
    if !data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, size)));
    }
}

/// Frees an object that was handed out by Box::into_raw; NULL is nothing.
///
/// # Safety
/// `object` was handed out once and is not used again.
pub unsafe fn take<T>(object: *mut T) {
    if !object.is_null() {
        // An object whose destructor panics is leaked: there is nobody to tell.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(object))));
    }
}

/// A string argument.
///
/// # Safety
/// `data` is valid for `size` bytes while the result is used, or `size` is 0.
pub unsafe fn str_arg<'a>(data: *const u8, size: usize) -> Result<&'a str, String> {
    if size == 0 {
        return Ok("");
    }
    std::str::from_utf8(std::slice::from_raw_parts(data, size))
        .map_err(|e| format!("the text is not UTF-8 at byte {}", e.valid_up_to()))
}

/// Runs `body`; writes its error, or what it panicked with, to `*error` and returns false.
///
/// # Safety
/// `error` points to a Text that may be overwritten.
pub unsafe fn guard(error: *mut Text, body: impl FnOnce() -> Result<(), String>) -> bool {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let result = catch_unwind(AssertUnwindSafe(body));
    if memory::ran_out() {
        *error = Text::new(OUT_OF_MEMORY.to_string());
        return false;
    }
    let message = match result {
        Ok(Ok(())) => return true,
        Ok(Err(message)) => message,
        Err(panic) => format!("the text library panicked: {}", panic_message(panic.as_ref())),
    };
    *error = Text::new(one_line(&message));
    false
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Text {
        Text { data: std::ptr::null_mut(), size: 0 }
    }

    fn text_of(text: Text) -> String {
        // SAFETY: the text came from Text::new and is freed once.
        unsafe {
            let copy = str_arg(text.data, text.size).expect("UTF-8").to_string();
            text.free();
            copy
        }
    }

    #[test]
    fn panics_and_errors_become_texts() {
        let mut error = empty();
        // SAFETY: `error` lives as long as the calls.
        unsafe {
            assert!(guard(&mut error, || Ok(())));
            assert!(!guard(&mut error, || Err("two\n  lines".to_string())));
            assert_eq!(text_of(std::mem::replace(&mut error, empty())), "two lines");
            assert!(!guard(&mut error, || panic!("at {}", 7)));
            assert_eq!(text_of(error), "the text library panicked: at 7");
        }
    }

    #[test]
    fn arguments_must_be_utf8() {
        let bytes = [b'a', 0xff];
        // SAFETY: the bytes live as long as the calls.
        unsafe {
            assert_eq!(str_arg(bytes.as_ptr(), 1), Ok("a"));
            assert!(str_arg(bytes.as_ptr(), 2).unwrap_err().contains("at byte 1"));
            assert_eq!(str_arg(std::ptr::null(), 0), Ok(""));
        }
    }

    #[test]
    fn nothing_is_null() {
        let text = Text::new(String::new());
        assert!(text.data.is_null() && text.size == 0);
        // SAFETY: each is freed once.
        unsafe {
            text.free();
            Ids::new(vec![1, 2]).free();
            take::<u8>(std::ptr::null_mut());
        }
    }
}
