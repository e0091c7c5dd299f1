//! Methods of Python's str and list, and filters of jinja2, that minijinja lacks or has with fewer
//! arguments. Positions and lengths are in characters, as in Python.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::python;

/// The longest text that is made by filling up another one.
const MAX_WIDTH: usize = 1 << 20;

pub fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_function("dict", dict);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("indent", indent);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("truncate", truncate);
    environment.add_filter("center", |text: String, width: Option<i64>| {
        pad(&text, width.unwrap_or(80), ' ', Side::Both)
    });
    environment.add_filter("wordcount", word_count);
    environment.add_filter("urlencode", url_encode);
    environment.add_filter("pprint", |value: Value| python::repr(&value));
}

fn failure(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_string())
}

// ---- methods ----

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.as_str() {
        Some(text) => text_method(text, name, args)?,
        None if value.kind() == ValueKind::Seq && name == "index" && args.len() == 1 => {
            let place = value.try_iter()?.position(|item| item == args[0]);
            Some(place.map(Value::from).ok_or_else(|| failure("the value is not in the list"))?)
        }
        None if matches!(value.kind(), ValueKind::Seq | ValueKind::Map)
            && name == "copy"
            && args.is_empty() =>
        {
            Some(value.clone())
        }
        None => None,
    };
    own.map_or_else(|| unknown_method_callback(state, value, name, args), Ok)
}

/// None: a method that is not one of these.
fn text_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let argument = |i: usize| {
        let value: Option<&Value> = args.get(i);
        value.and_then(Value::as_str).ok_or_else(|| failure("expected a text as an argument"))
    };
    let width = || {
        let value: Option<&Value> = args.first();
        value.and_then(Value::as_i64).ok_or_else(|| failure("expected a width"))
    };
    let fill = || args.get(1).and_then(Value::as_str).and_then(|s| s.chars().next()).unwrap_or(' ');
    Ok(Some(match name {
        "swapcase" => text.chars().map(swapped).collect::<String>().into(),
        "casefold" => text.to_lowercase().replace('ß', "ss").replace('ς', "σ").into(),
        "title" => title(text).into(),
        "removeprefix" => text.strip_prefix(argument(0)?).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(argument(0)?).unwrap_or(text).into(),
        "zfill" => zero_fill(text, width()?)?.into(),
        "ljust" => pad(text, width()?, fill(), Side::Right)?.into(),
        "rjust" => pad(text, width()?, fill(), Side::Left)?.into(),
        "center" => pad(text, width()?, fill(), Side::Both)?.into(),
        "partition" | "rpartition" => partition(text, argument(0)?, name == "partition")?,
        "rsplit" => rsplit(text, args)?,
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, name, argument(0)?, args)?,
        "startswith" | "endswith" if args.len() > 1 => begins_or_ends(text, name, args)?,
        "isdecimal" => is_all(text, python::is_decimal).into(),
        "istitle" => (text.chars().any(char::is_alphabetic) && title(text) == text).into(),
        "isidentifier" => {
            let word = |c: char| c == '_' || c.is_alphanumeric();
            (is_all(text, word) && !text.starts_with(char::is_numeric)).into()
        }
        _ => return Ok(None),
    }))
}

fn is_all(text: &str, test: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(test)
}

fn swapped(c: char) -> String {
    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
}

/// str.title: a letter behind something that is none is a capital.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut result = String::new();
    for c in text.chars() {
        match inside {
            true => result.extend(c.to_lowercase()),
            false => result.extend(c.to_uppercase()),
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    result
}

enum Side {
    Left,
    Right,
    Both,
}

fn pad(text: &str, width: i64, fill: char, side: Side) -> Result<String, Error> {
    let width = usize::try_from(width).unwrap_or(0);
    if width > MAX_WIDTH {
        return Err(failure("a text would become too long"));
    }
    let missing = width.saturating_sub(text.chars().count());
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let filled = |n: usize| fill.to_string().repeat(n);
    Ok(filled(left) + text + &filled(missing - left))
}

fn zero_fill(text: &str, width: i64) -> Result<String, Error> {
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    Ok(sign.to_string() + &pad(digits, width - sign.len() as i64, '0', Side::Left)?)
}

fn partition(text: &str, separator: &str, first: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(failure("empty separator"));
    }
    let found = if first { text.split_once(separator) } else { text.rsplit_once(separator) };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if first => [text, "", ""],
        None => ["", "", text],
    };
    Ok(Value::from(minijinja::value::Tuple::new(parts.map(Value::from).to_vec())))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let most = args.get(1).and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok());
    let most = most.map_or(usize::MAX, |n| n.saturating_add(1));
    let mut parts: Vec<&str> = match args.first().filter(|a| !a.is_none()) {
        Some(separator) => {
            let separator = separator.as_str().unwrap_or_default();
            if separator.is_empty() {
                return Err(failure("empty separator"));
            }
            text.rsplitn(most, separator).collect()
        }
        None if most == usize::MAX => text.split_whitespace().rev().collect(),
        None => {
            let mut rest = text.trim_end();
            let mut parts = Vec::new();
            while !rest.is_empty() && parts.len() + 1 < most {
                let (before, word) = rest.rsplit_once(char::is_whitespace).unwrap_or(("", rest));
                parts.push(word);
                rest = before.trim_end();
            }
            parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
            parts
        }
    };
    parts.reverse();
    Ok(Value::from_iter(parts.into_iter().map(Value::from)))
}

/// The part of a text between two positions (arguments 1 and 2), and how many characters are before.
fn slice<'a>(text: &'a str, args: &[Value]) -> (&'a str, usize) {
    let length = text.chars().count() as i64;
    let place = |i: usize, default: i64| {
        let place = args.get(i).and_then(Value::as_i64).unwrap_or(default);
        (if place < 0 { place + length } else { place }).clamp(0, length) as usize
    };
    let (first, end) = (place(1, 0), place(2, length));
    let offset = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    (text.get(offset(first)..offset(end)).unwrap_or(""), first)
}

fn search(text: &str, name: &str, wanted: &str, args: &[Value]) -> Result<Value, Error> {
    let (part, before) = slice(text, args);
    if name == "count" {
        let empty = wanted.is_empty();
        let found = if empty { part.chars().count() + 1 } else { part.matches(wanted).count() };
        return Ok(Value::from(found));
    }
    let found = if name.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) };
    match found {
        Some(at) => Ok(Value::from(before + part[..at].chars().count())),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(failure("substring not found")),
    }
}

fn begins_or_ends(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (part, _) = slice(text, args);
    let is = |end: &str| if name == "startswith" { part.starts_with(end) } else { part.ends_with(end) };
    if let Some(end) = args[0].as_str() {
        return Ok(Value::from(is(end)));
    }
    Ok(Value::from(args[0].try_iter()?.any(|end| end.as_str().is_some_and(is))))
}

// ---- functions and filters ----

/// dict(mapping or pairs, name=value, ...).
fn dict(given: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    let mut members = Vec::new();
    if let Some(given) = given {
        for item in given.try_iter()? {
            if given.kind() == ValueKind::Map {
                members.push((item.clone(), given.get_item(&item)?));
            } else {
                members.push((item.get_item_by_index(0)?, item.get_item_by_index(1)?));
            }
        }
    }
    for name in more.args() {
        let value: Value = more.get(name)?;
        match members.iter_mut().find(|(key, _)| key.as_str() == Some(name)) {
            Some(member) => member.1 = value,
            None => members.push((Value::from(name), value)),
        }
    }
    Ok(Value::from_pairs(members))
}

/// default(value, default_value="", boolean=False).
fn default(
    value: Value,
    other: Option<Value>,
    boolean: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let other = other.or(options.get::<Option<Value>>("default_value")?);
    let boolean = boolean.or(options.get::<Option<bool>>("boolean")?).unwrap_or(false);
    options.assert_all_used()?;
    let missing = value.is_undefined() || (boolean && !value.is_true());
    Ok(if missing { other.unwrap_or_else(|| Value::from("")) } else { value })
}

/// int(value, default=0, base=10).
fn int(
    value: Value,
    default: Option<Value>,
    base: Option<u32>,
    options: Kwargs,
) -> Result<Value, Error> {
    let default = default.or(options.get::<Option<Value>>("default")?).unwrap_or(Value::from(0));
    let base = base.or(options.get::<Option<u32>>("base")?).unwrap_or(10);
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if let Some(text) = value.as_str() {
        let digits = text.trim().replace('_', "").to_lowercase();
        let prefix = match base {
            2 => "0b",
            8 => "0o",
            16 => "0x",
            _ => "",
        };
        let number = digits.strip_prefix(prefix).unwrap_or(&digits);
        if let Some(number) = (2..=36).contains(&base).then(|| i128::from_str_radix(number, base).ok()) {
            if let Some(number) = number {
                return Ok(Value::from(number));
            }
        }
        return Ok(python_float(text).and_then(whole).unwrap_or(default));
    }
    if value.kind() == ValueKind::Number && value.is_integer() {
        return Ok(value);
    }
    if value.kind() == ValueKind::Bool {
        return Ok(Value::from(i64::from(value.is_true())));
    }
    Ok(f64::try_from(value).ok().and_then(whole).unwrap_or(default))
}

fn whole(value: f64) -> Option<Value> {
    (value.abs() < 1e38).then(|| Value::from(value.trunc() as i128))
}

fn python_float(text: &str) -> Option<f64> {
    text.trim().replace('_', "").parse().ok()
}

/// float(value, default=0.0).
fn float(value: Value, default: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let default = default.or(options.get::<Option<Value>>("default")?).unwrap_or(Value::from(0.0));
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let number = match value.as_str() {
        Some(text) => python_float(text),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value).ok(),
    };
    Ok(number.map_or(default, Value::from))
}

/// indent(s, width=4, first=False, blank=False); the width may be a text.
fn indent(text: String, arguments: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let argument = |i: usize, name: &str| match arguments.get(i) {
        Some(value) => Ok(Some(value.clone())),
        None => options.get::<Option<Value>>(name),
    };
    let is_set = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let width = argument(0, "width")?.unwrap_or(Value::from(4));
    let (first, blank) = (is_set(argument(1, "first")?), is_set(argument(2, "blank")?));
    options.assert_all_used()?;
    let space = match width.as_str() {
        Some(space) => space.to_string(),
        None => pad("", width.as_i64().ok_or_else(|| failure("expected a width"))?, ' ', Side::Left)?,
    };
    let mut result = String::new();
    for (i, line) in (text + "\n").lines().enumerate() {
        result.push_str(if i > 0 { "\n" } else { "" });
        let indented = if i == 0 { first } else { blank || !line.is_empty() };
        result.push_str(if indented { &space } else { "" });
        result.push_str(line);
    }
    Ok(result)
}

/// dictsort(value, case_sensitive=False, by="key", reverse=False).
fn dictsort(value: Value, arguments: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let mut all: Vec<(String, Value)> = Vec::new();
    for name in options.args() {
        all.push((name.to_string(), options.get(name)?));
    }
    for (name, argument) in ["case_sensitive", "by", "reverse"].iter().zip(arguments.iter()) {
        all.push((name.to_string(), argument.clone()));
    }
    minijinja::filters::dictsort(&value, Kwargs::from_iter(all))
}

/// truncate(s, length=255, killwords=False, end="...", leeway=5).
fn truncate(text: String, arguments: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let argument = |i: usize, name: &str| match arguments.get(i) {
        Some(value) => Ok(Some(value.clone())),
        None => options.get::<Option<Value>>(name),
    };
    let number = |value: Option<Value>, default: usize| match value {
        Some(value) if !value.is_none() => value.as_usize().ok_or_else(|| failure("expected a length")),
        _ => Ok(default),
    };
    let length = number(argument(0, "length")?, 255)?;
    let cuts_words = argument(1, "killwords")?.is_some_and(|value| value.is_true());
    let end = argument(2, "end")?.map_or("...".to_string(), |value| value.to_string());
    let leeway = number(argument(3, "leeway")?, 5)?;
    options.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept = length
        .checked_sub(end.chars().count())
        .ok_or_else(|| failure("truncate: the end is longer than the length"))?;
    let cut: String = text.chars().take(kept).collect();
    let words = if cuts_words { &cut } else { cut.rsplit_once(' ').map_or(&*cut, |(words, _)| words) };
    Ok(words.to_string() + &end)
}

fn word_count(text: String) -> usize {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).count()
}

/// urlencode of a text, or of a mapping or pairs as a query.
fn url_encode(value: Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(quoted(text, "/"));
    }
    if matches!(value.kind(), ValueKind::Number | ValueKind::Bool | ValueKind::None) {
        return Ok(quoted(&value.to_string(), "/"));
    }
    let mut pairs = Vec::new();
    for item in value.try_iter()? {
        let (name, item) = match value.kind() {
            ValueKind::Map => (item.clone(), value.get_item(&item)?),
            _ => (item.get_item_by_index(0)?, item.get_item_by_index(1)?),
        };
        let part = |v: Value| quoted(&v.to_string(), "").replace("%20", "+");
        pairs.push(part(name) + "=" + &part(item));
    }
    Ok(pairs.join("&"))
}

fn quoted(text: &str, safe: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `%`, which for a text on the left is Python's formatting.
pub fn remainder(state: &mut State, left: Value, right: Value) -> Result<Value, Error> {
    if left.as_str().is_none() {
        let operands = Value::from_pairs([("left", left), ("right", right)]);
        return Environment::empty().compile_expression("left % right")?.eval(operands);
    }
    let mut arguments = vec![left];
    if right.is_tuple() {
        arguments.extend(right.try_iter()?);
    } else if right.kind() == ValueKind::Map {
        let mut members = Vec::new();
        for key in right.try_iter()? {
            members.push((key.to_string(), right.get_item(&key)?));
        }
        arguments.push(Value::from(Kwargs::from_iter(members)));
    } else {
        arguments.push(right);
    }
    state.apply_filter("format", &arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of Python 3.
    #[test]
    fn methods_are_pythons() {
        let texts = [
            ("'aB1'.swapcase()", "Ab1"),
            ("'they\\'re x'.title()", "They'Re X"),
            ("'-7'.zfill(4) ~ 'ab'.center(5) ~ 'a'.rjust(3, '.')", "-007  ab ..a"),
            ("'a b  c'.rsplit(none, 1)|join('|')", "a b|c"),
            ("'a.b.c'.rpartition('.')|join('|')", "a.b|.|c"),
            ("'größe'.find('e', -2) ~ 'aXbX'.rindex('X')", "43"),
            ("'abc'.startswith(('x', 'b'), 1)", "True"),
            ("[3, 4].index(4)", "1"),
        ];
        for (source, text) in texts {
            let mut environment = Environment::new();
            add_to(&mut environment);
            let result = environment.compile_expression(source).and_then(|e| e.eval(()));
            assert_eq!(result.map(|v| v.to_string()).ok().as_deref(), Some(text), "{source}");
        }
    }
}
