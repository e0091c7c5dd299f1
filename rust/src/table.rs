//! Rows of tables as lines of JSON (lewis_data.h): CSV, and Parquet in parquet.rs.

use std::io::{self, Read};

use crate::parquet;
use crate::unpack::Bytes;

const MOST_RECORD: u64 = 64 << 20;

pub trait Rows: Send {
    /// Appends the next row as a JSON object, without a line feed; false at the end.
    fn next(&mut self, out: &mut String) -> Result<bool, String>;
}

pub fn open(path: &str, format: u32) -> Result<Box<dyn Rows>, String> {
    match format {
        0 => Ok(Box::new(Csv::open(path, b',')?)),
        1 => Ok(Box::new(Csv::open(path, b'\t')?)),
        2 => Ok(Box::new(parquet::Rows::open(path)?)),
        _ => Err(format!("unknown format {format}")),
    }
}

/// Appends a text as a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    // A string is always written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Refuses a record without end.
struct Limited {
    bytes: Bytes,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.bytes.read(out)?;
        self.left = self.left.checked_sub(got as u64).ok_or_else(|| {
            io::Error::other(format!(
                "a record has more than {} MiB: is a quote open?",
                MOST_RECORD >> 20
            ))
        })?;
        Ok(got)
    }
}

struct Csv {
    reader: csv::Reader<Limited>,
    names: Vec<String>, // as JSON strings
    record: csv::StringRecord,
}

impl Csv {
    fn open(path: &str, delimiter: u8) -> Result<Csv, String> {
        let bytes = Bytes::open(path).map_err(|e| e.to_string())?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .from_reader(Limited { bytes, left: MOST_RECORD });
        let mut names: Vec<String> = Vec::new();
        for name in reader.headers().map_err(|e| e.to_string())? {
            let mut json = String::new();
            push_string(&mut json, name.trim_start_matches('\u{feff}'));
            if names.contains(&json) {
                return Err(format!("the header names the column {json} twice"));
            }
            names.push(json);
        }
        Ok(Csv { reader, names, record: csv::StringRecord::new() })
    }
}

impl Rows for Csv {
    fn next(&mut self, out: &mut String) -> Result<bool, String> {
        self.reader.get_mut().left = MOST_RECORD;
        if !self.reader.read_record(&mut self.record).map_err(|e| e.to_string())? {
            return Ok(false);
        }
        out.push('{');
        for (i, (name, value)) in self.names.iter().zip(&self.record).enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(name);
            out.push(':');
            push_string(out, value);
        }
        out.push('}');
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(text: &str) -> Result<Vec<String>, String> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lewis-{}-{number}.csv", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let mut rows = Vec::new();
        let result = (|| {
            let mut table = open(path.to_str().unwrap(), 0)?;
            loop {
                let mut row = String::new();
                if !table.next(&mut row)? {
                    return Ok(());
                }
                rows.push(row);
            }
        })();
        std::fs::remove_file(&path).unwrap();
        result.map(|()| rows)
    }

    #[test]
    fn rfc_4180() {
        let rows = rows_of("\u{feff}q,a\r\n\"two\r\nlines, \"\"quoted\"\"\",4\r\n,\r\nx,y").unwrap();
        assert_eq!(
            rows,
            [
                r#"{"q":"two\r\nlines, \"quoted\"","a":"4"}"#,
                r#"{"q":"","a":""}"#,
                r#"{"q":"x","a":"y"}"#
            ]
        );
        assert!(rows_of("").unwrap().is_empty());
        assert!(rows_of("a,b\n").unwrap().is_empty());
    }

    #[test]
    fn tables_that_are_none() {
        assert!(rows_of("a,a\n1,2\n").unwrap_err().contains("twice"));
        assert!(rows_of("a,b\n1\n").unwrap_err().contains("1 field"));
    }
}
