//! The C border of include/lewis_data.h; behind it are unpack.rs, table.rs and parquet.rs.

use std::io::Read;

use crate::border::{guard, str_arg, take, Text};
use crate::table::{self, Rows};
use crate::unpack::Bytes;

pub struct Table {
    rows: Box<dyn Rows>,
    failed: Option<String>, // behind rows that have been handed over
}

impl Table {
    /// An error comes after the rows before it.
    fn next_rows(&mut self, enough: usize) -> Result<String, String> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut text = String::new();
        while text.len() < enough {
            let before = text.len();
            match self.rows.next(&mut text) {
                Ok(true) => text.push('\n'),
                Ok(false) => break,
                Err(error) if before == 0 => return Err(error),
                Err(error) => {
                    text.truncate(before);
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok(text)
    }
}

// Safety of all functions below: as in lib.rs.

#[no_mangle]
pub unsafe extern "C" fn lewis_bytes_new(
    path: *const u8,
    path_size: usize,
    bytes: *mut *mut Bytes,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let opened = Bytes::open(str_arg(path, path_size)?).map_err(|e| e.to_string())?;
        *bytes = Box::into_raw(Box::new(opened));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_bytes_read(
    bytes: *mut Bytes,
    out: *mut u8,
    size: usize,
    got: *mut usize,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let out = std::slice::from_raw_parts_mut(out, size);
        *got = (*bytes).read(out).map_err(|e| e.to_string())?;
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_bytes_free(bytes: *mut Bytes) {
    take(bytes);
}

#[no_mangle]
pub unsafe extern "C" fn lewis_rows_new(
    path: *const u8,
    path_size: usize,
    format: u32,
    rows: *mut *mut Table,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let opened = table::open(str_arg(path, path_size)?, format)?;
        let table = Table { rows: opened, failed: None };
        *rows = Box::into_raw(Box::new(table));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_rows_next(
    rows: *mut Table,
    enough: usize,
    lines: *mut Text,
    error: *mut Text,
) -> bool {
    guard(error, || {
        *lines = Text::new((*rows).next_rows(enough)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_rows_free(rows: *mut Table) {
    take(rows);
}
