//! The few functions of Python that chat templates see: json.dumps, repr of a float, strftime.

use std::sync::OnceLock;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use regex::Regex;

/// A template can make a namespace that holds itself, or lists of the same list many times over.
const MAX_DEPTH: usize = 100;
const MAX_BYTES: usize = 16 << 20;

/// The arguments of json.dumps.
pub struct JsonStyle {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

impl JsonStyle {
    /// Python's defaults, but for ensure_ascii, which is false as in transformers.
    pub fn from_kwargs(options: &Kwargs) -> Result<JsonStyle, Error> {
        let indent = match options.get::<Option<Value>>("indent")? {
            Some(text) if text.as_str().is_some() => text.as_str().map(str::to_string),
            Some(count) => count.as_usize().map(|n| " ".repeat(n.min(1000))),
            None => None,
        };
        let separators = match options.get::<Option<Value>>("separators")? {
            Some(pair) if !pair.is_none() => {
                (pair.get_item_by_index(0)?.to_string(), pair.get_item_by_index(1)?.to_string())
            }
            _ => ((if indent.is_some() { "," } else { ", " }).to_string(), ": ".to_string()),
        };
        Ok(JsonStyle {
            ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
            indent,
            item_separator: separators.0,
            key_separator: separators.1,
            sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        })
    }
}

/// json.dumps(value).
pub fn json_dumps(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(value, style, 0, &mut out)?;
    Ok(out)
}

fn write_json(value: &Value, style: &JsonStyle, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH || out.len() > MAX_BYTES {
        let what = if depth > MAX_DEPTH { "nested too deeply" } else { "too long" };
        return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}")));
    }
    match value.kind() {
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Map => write_object(value, style, depth, out)?,
        ValueKind::Seq | ValueKind::Iterable => write_array(value, style, depth, out)?,
        _ => out.push_str(&scalar(value)?),
    }
    Ok(())
}

fn scalar(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Ok("null".to_string()),
        ValueKind::Bool => Ok((if value.is_true() { "true" } else { "false" }).to_string()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        ValueKind::Number => Ok(float_repr(f64::try_from(value.clone())?)),
        kind => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("tojson: a value of kind {kind} is not JSON serializable"),
        )),
    }
}

fn write_array(value: &Value, style: &JsonStyle, depth: usize, out: &mut String) -> Result<(), Error> {
    out.push('[');
    let mut empty = true;
    for item in value.try_iter()? {
        separate(empty, style, depth + 1, out);
        write_json(&item, style, depth + 1, out)?;
        empty = false;
    }
    close(empty, style, depth, out);
    out.push(']');
    Ok(())
}

fn write_object(value: &Value, style: &JsonStyle, depth: usize, out: &mut String) -> Result<(), Error> {
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if style.sort_keys {
        keys.sort();
    }
    out.push('{');
    for (i, key) in keys.iter().enumerate() {
        separate(i == 0, style, depth + 1, out);
        let name = match key.as_str() {
            Some(name) => name.to_string(),
            None => scalar(key)?,
        };
        write_string(&name, style, out);
        out.push_str(&style.key_separator);
        write_json(&value.get_item(key)?, style, depth + 1, out)?;
    }
    close(keys.is_empty(), style, depth, out);
    out.push('}');
    Ok(())
}

/// The text before an item of a list or an object.
fn separate(first: bool, style: &JsonStyle, depth: usize, out: &mut String) {
    if !first {
        out.push_str(&style.item_separator);
    }
    new_line(style, depth, out);
}

/// The text before the closing bracket.
fn close(empty: bool, style: &JsonStyle, depth: usize, out: &mut String) {
    if !empty {
        new_line(style, depth, out);
    }
}

fn new_line(style: &JsonStyle, depth: usize, out: &mut String) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        out.push_str(&indent.repeat(depth));
    }
}

fn write_string(text: &str, style: &JsonStyle, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (style.ensure_ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// str(value) where it is not what minijinja writes: floats, lists and maps.
pub fn text(value: &Value) -> Result<Option<String>, Error> {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => {
            Ok(Some(float_text(f64::try_from(value.clone())?)))
        }
        ValueKind::Seq | ValueKind::Map => repr(value).map(Some),
        _ => Ok(None),
    }
}

/// repr(value).
pub fn repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(value, 0, &mut out)?;
    Ok(out)
}

/// repr(value) of lists, tuples, dicts, texts and floats; other values are as minijinja writes them
/// in a list.
fn write_repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH || out.len() > MAX_BYTES {
        let what = if depth > MAX_DEPTH { "is nested too deeply" } else { "is too long" };
        let message = format!("a value {what} to be written");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::String => write_text_repr(value.as_str().unwrap_or_default(), out),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&float_text(f64::try_from(value.clone())?));
        }
        ValueKind::Seq => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(&item, depth + 1, out)?;
            }
            out.push_str(if tuple && value.len() == Some(1) { "," } else { "" });
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(&key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&format!("{value:?}")),
    }
    Ok(())
}

/// repr of a text: in single quotes unless it has some and no double ones, with escapes for what
/// Python does not print.
fn write_text_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if is_printed(c) => out.push(c),
            c => match c as u32 {
                code @ 0..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
}

/// str.isprintable: everything but the general categories "other" and "separator".
fn is_printed(c: char) -> bool {
    static HIDDEN: OnceLock<Option<Regex>> = OnceLock::new();
    !is_in(c, &HIDDEN, r"^[\p{C}\p{Z}]$")
}

/// str.isdecimal of a character.
pub fn is_decimal(c: char) -> bool {
    static DIGITS: OnceLock<Option<Regex>> = OnceLock::new();
    is_in(c, &DIGITS, r"^\p{Nd}$")
}

/// Whether a character is in a class, whose pattern is compiled once.
fn is_in(c: char, class: &OnceLock<Option<Regex>>, pattern: &str) -> bool {
    let class = class.get_or_init(|| Regex::new(pattern).ok());
    class.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}

/// str(value) of a float.
pub fn float_text(value: f64) -> String {
    match value {
        _ if value.is_nan() => "nan".to_string(),
        f64::INFINITY => "inf".to_string(),
        f64::NEG_INFINITY => "-inf".to_string(),
        _ => float_repr(value),
    }
}

/// repr(value) as json.dumps writes it: the shortest digits, an exponent below 1e-4 and from 1e16.
fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return (if value > 0.0 { "Infinity" } else { "-Infinity" }).to_string();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// strftime of the C locale; `now` is in seconds since 1970-01-01 00:00. None when the format is
/// not one or its result is longer than a page.
pub fn strftime(format: &str, now: i64) -> Option<String> {
    if format.is_empty() {
        return Some(String::new());
    }
    let format = std::ffi::CString::new(format).ok()?;
    let mut buffer = [0u8; 4096];
    // SAFETY: tm is plain data, all pointers are to live objects, and the size is the buffer's.
    let size = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        let seconds = now as libc::time_t;
        if libc::gmtime_r(&seconds, &mut tm).is_null() {
            return None;
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &tm)
    };
    let text = std::str::from_utf8(&buffer[..size]).ok()?;
    (!text.is_empty()).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(ensure_ascii: bool, indent: Option<&str>, sort_keys: bool) -> JsonStyle {
        JsonStyle {
            ensure_ascii,
            indent: indent.map(str::to_string),
            item_separator: (if indent.is_some() { "," } else { ", " }).to_string(),
            key_separator: ": ".to_string(),
            sort_keys,
        }
    }

    fn dumps(value: Value, style: &JsonStyle) -> String {
        json_dumps(&value, style).expect("the value can be written")
    }

    /// The expected texts are what Python 3 prints for json.dumps.
    #[test]
    fn json_is_pythons() {
        let plain = style(false, None, false);
        assert_eq!(dumps(Value::from(vec![1, 2, 3]), &plain), "[1, 2, 3]");
        assert_eq!(dumps(Value::from(Vec::<i64>::new()), &plain), "[]");
        assert_eq!(dumps(Value::from(()), &plain), "null");
        assert_eq!(dumps(Value::from(true), &plain), "true");
        let object = Value::from_pairs([("b", 1), ("a", 2)]);
        assert_eq!(dumps(object.clone(), &plain), r#"{"b": 1, "a": 2}"#);
        assert_eq!(dumps(object.clone(), &style(false, None, true)), r#"{"a": 2, "b": 1}"#);
        assert_eq!(dumps(object, &style(false, Some("  "), true)), "{\n  \"a\": 2,\n  \"b\": 1\n}");
    }

    #[test]
    fn strings_are_escaped() {
        let text = "a\"\\\n\t\u{1}é\u{1f600}";
        assert_eq!(dumps(Value::from(text), &style(false, None, false)), "\"a\\\"\\\\\\n\\t\\u0001é\u{1f600}\"");
        assert_eq!(
            dumps(Value::from(text), &style(true, None, false)),
            r#""a\"\\\n\t\u0001\u00e9\ud83d\ude00""#
        );
    }

    #[test]
    fn nested_too_deeply_is_an_error() {
        let mut value = Value::from(1);
        for _ in 0..=MAX_DEPTH {
            value = Value::from(vec![value]);
        }
        let error = json_dumps(&value, &style(false, None, false)).expect_err("too deep");
        assert!(error.to_string().contains("nested too deeply"), "{error}");
    }

    /// The expected texts are what Python 3 prints for repr of the same numbers.
    #[test]
    fn floats_are_pythons() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, text) in cases {
            assert_eq!(float_repr(value), text);
        }
    }

    #[test]
    fn dates() {
        assert_eq!(strftime("%Y-%m-%d %H:%M:%S", 0).as_deref(), Some("1970-01-01 00:00:00"));
        assert_eq!(strftime("%d %b %Y", 1_709_164_800).as_deref(), Some("29 Feb 2024"));
        assert_eq!(strftime("", 0).as_deref(), Some(""));
        assert_eq!(strftime("a\0b", 0), None, "a format with a zero byte");
        assert_eq!(strftime(&"%Y".repeat(2000), 0), None, "longer than a page");
    }
}
