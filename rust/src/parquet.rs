//! The rows of a Parquet file as JSON, streamed page by page.

use std::fs::File;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};

use crate::table::{self, push_string};
use crate::unpack::{most_of, too_much};

/// Values of a column that are decoded at once: few, since other columns may hold pictures.
const BATCH: usize = 32;

pub struct Rows {
    rows: RowIter<'static>,
    size: u64,
    left: u64,
}

impl Rows {
    pub fn open(path: &str) -> Result<Rows, String> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let size = file.metadata().map_err(|e| e.to_string())?.len();
        let reader = SerializedFileReader::new(file).map_err(|e| e.to_string())?;
        let reader: Box<dyn FileReader> = Box::new(reader);
        let rows = RowIter::from_file_into(reader).with_batch_size(BATCH);
        Ok(Rows { rows, size, left: most_of(size) })
    }
}

impl table::Rows for Rows {
    fn next(&mut self, out: &mut String) -> Result<bool, String> {
        let row = match self.rows.next() {
            None => return Ok(false),
            Some(row) => row.map_err(|e| e.to_string())?,
        };
        let before = out.len();
        push_row(out, &row);
        self.left = self
            .left
            .checked_sub((out.len() - before) as u64)
            .ok_or_else(|| too_much(self.size))?;
        Ok(true)
    }
}

fn push_row(out: &mut String, row: &Row) {
    out.push('{');
    for (i, (name, field)) in row.get_column_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_field(out, field);
    }
    out.push('}');
}

fn push_field(out: &mut String, field: &Field) {
    match field {
        Field::Null => out.push_str("null"),
        Field::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Field::Byte(_)
        | Field::Short(_)
        | Field::Int(_)
        | Field::Long(_)
        | Field::UByte(_)
        | Field::UShort(_)
        | Field::UInt(_)
        | Field::ULong(_) => out.push_str(&field.to_string()),
        Field::Float16(value) => push_number(out, f32::from(*value)),
        Field::Float(value) => push_number(out, *value),
        Field::Double(value) => match value.is_finite() {
            true => out.push_str(&format!("{value:?}")),
            false => out.push_str("null"),
        },
        Field::Str(text) => push_string(out, text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => push_string(out, text), // old writers do not say which bytes are text
            Err(_) => out.push_str("null"),
        },
        Field::Group(row) => push_row(out, row),
        Field::ListInternal(list) => {
            out.push('[');
            for (i, element) in list.elements().iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_field(out, element);
            }
            out.push(']');
        }
        Field::MapInternal(map) => {
            out.push('{');
            for (i, (key, value)) in map.entries().iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                match key {
                    Field::Str(text) => push_string(out, text),
                    other => push_string(out, &other.to_string()),
                }
                out.push(':');
                push_field(out, value);
            }
            out.push('}');
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => push_string(out, &field.to_string()),
    }
}

/// The shortest digits that are this number; null for one that JSON does not have.
fn push_number(out: &mut String, value: f32) {
    match value.is_finite() {
        true => out.push_str(&format!("{value:?}")),
        false => out.push_str("null"),
    }
}
