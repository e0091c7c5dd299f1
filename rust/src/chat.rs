//! Chat templates: Jinja rendered as transformers' apply_chat_template renders it.

use std::collections::BTreeMap;

use minijinja::machinery::{self, CodeGenerator, Instruction, Instructions, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use crate::{builtins, python};

/// A template may run this many instructions and make 64 times as many bytes. Long conversations
/// need less than a hundredth of it.
const BUDGET: u64 = 10_000_000;

/// Where strftime_now finds the time; templates cannot spell it by accident.
const NOW: &str = "lewis now";

const NAME: &str = "chat template";

/// Functions that stand for operators; templates cannot spell them by accident.
const CONCAT: &str = "lewis concat";
const ADD: &str = "lewis add";
const REMAINDER: &str = "lewis remainder";

/// The names under which messages have the thoughts of an answer. The first is the standard one.
const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

pub struct Template {
    environment: Environment<'static>,
    instructions: Instructions<'static>,
    blocks: BTreeMap<&'static str, Instructions<'static>>,
}

impl Template {
    /// Compiles Jinja source. What a template is compiled to lives as long as the process.
    pub fn new(source: &str) -> Result<Template, String> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        let syntax = syntax.build().map_err(|e| describe(&e))?;
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(BUDGET));
        environment.set_formatter(|out, state, value| match python::text(value)? {
            Some(text) => out.write_str(&text).map_err(Error::from),
            None => minijinja::escape_formatter(out, state, value),
        });
        add_functions(&mut environment);
        let source = with_python_floats(&without_generation_tags(source), &syntax);
        let source: &'static str = Box::leak(source.into_boxed_str());
        let tree = machinery::parse(source, NAME, syntax).map_err(|e| describe(&e))?;
        let mut generator = CodeGenerator::new(NAME, source);
        generator.compile_stmt(&tree);
        let (mut instructions, mut blocks) = generator.finish();
        let escapes = ["e", "escape", "forceescape", "safe"].iter().any(|f| uses_filter(source, f));
        use_python_operators(&mut instructions, escapes);
        blocks.values_mut().for_each(|block| use_python_operators(block, escapes));
        Ok(Template { environment, instructions, blocks })
    }

    /// Renders with the members of a JSON object as variables.
    pub fn render(&self, context: &str, now: i64) -> Result<String, String> {
        let context: serde_json::Value =
            serde_json::from_str(context).map_err(|e| format!("the context is not JSON: {e}"))?;
        let serde_json::Value::Object(mut variables) = context else {
            return Err("the context is not a JSON object".to_string());
        };
        if let Some(serde_json::Value::Array(messages)) = variables.get_mut("messages") {
            messages.iter_mut().for_each(prepare_message);
        }
        let variables = variables.into_iter().map(|(name, value)| (name, to_value(value)));
        let now = std::iter::once((NOW.to_string(), Value::from(now)));
        let variables = Value::from_pairs(variables.chain(now));
        let mut text = String::new();
        let mut out = machinery::make_string_output(&mut text);
        let (env, code, blocks) = (&self.environment, &self.instructions, &self.blocks);
        machinery::eval(env, code, variables, blocks, &mut out, AutoEscape::None)
            .map_err(|e| describe(&e))?;
        Ok(text)
    }
}

fn add_functions(environment: &mut Environment<'static>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_function(CONCAT, concat);
    environment.add_function(ADD, add);
    environment.add_function(REMAINDER, builtins::remainder);
    builtins::add_to(environment);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", string);
    environment.add_filter("join", join);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("forceescape", force_escape);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
}

/// Puts a filter behind the float literals that Python prints differently, since the compiler would
/// join them to texts as Rust prints them.
fn with_python_floats(source: &str, syntax: &SyntaxConfig) -> String {
    let mut result = String::new();
    let mut done = 0;
    for token in machinery::tokenize(source, false, syntax.clone()) {
        // The parser finds the same error, and says where it is.
        let Ok((token, span)) = token else { return source.to_string() };
        let Token::Float(value) = token else { continue };
        if python::float_text(value) == Value::from(value).to_string() {
            continue;
        }
        let (begin, end) = (span.start_offset as usize, span.end_offset as usize);
        let Some(literal) = source.get(begin..end) else { return source.to_string() };
        result.push_str(&source[done..begin]);
        result.push_str(&format!("({literal}|float)"));
        done = end;
    }
    result + &source[done..]
}

fn uses_filter(source: &str, name: &str) -> bool {
    source.split('|').skip(1).any(|rest| {
        let rest = rest.trim_start().strip_prefix(name);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// Lets `~` write floats as Python does and `%` format texts, and in a template that escapes lets `+` escape what is
/// added to an escaped text.
fn use_python_operators(instructions: &mut Instructions<'static>, escapes: bool) {
    let mut at = 0;
    while let Some(instruction) = instructions.get_mut(at) {
        match instruction {
            Instruction::StringConcat => *instruction = Instruction::CallFunction(CONCAT, Some(2)),
            Instruction::Rem => *instruction = Instruction::CallFunction(REMAINDER, Some(2)),
            Instruction::Add if escapes => {
                *instruction = Instruction::CallFunction(ADD, Some(2));
            }
            _ => (),
        }
        at += 1;
    }
}

/// As transformers' apply_chat_template does it: members that are null are left out, and thoughts
/// are there as reasoning_content and, for gpt-oss, as thinking.
fn prepare_message(message: &mut serde_json::Value) {
    let Some(members) = message.as_object_mut() else { return };
    members.retain(|_, value| !value.is_null());
    let Some(thoughts) = THOUGHTS.iter().find_map(|name| members.get(*name)).cloned() else { return };
    if !members.contains_key("thinking") {
        let rest = std::mem::take(members);
        members.insert("thinking".to_string(), thoughts.clone());
        members.extend(rest);
    }
    members.insert("reasoning_content".to_string(), thoughts);
}

fn to_value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(value),
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::Array(items) => {
            Value::from(items.into_iter().map(to_value).collect::<Vec<_>>())
        }
        serde_json::Value::Object(members) => {
            Value::from_pairs(members.into_iter().map(|(key, value)| (key, to_value(value))))
        }
    }
}

/// transformers marks the assistant's text with {% generation %} ... {% endgeneration %}; what is
/// rendered is what stands between them.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        let (open, inner) = split_sign(tag, true);
        let (close, word) = split_sign(inner, false);
        let replacement = match word.trim() {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        result.push_str(&rest[..start]);
        match replacement {
            Some(word) => result.push_str(&format!("{{%{open} {word} {close}%}}")),
            None => result.push_str(&rest[start..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    result + rest
}

/// A leading (or last) '-' or '+' of a tag, and the rest.
fn split_sign(tag: &str, leading: bool) -> (&str, &str) {
    let sign = ['-', '+'];
    if leading && tag.starts_with(sign) {
        tag.split_at(1)
    } else if !leading && tag.ends_with(sign) {
        let (word, sign) = tag.split_at(tag.len() - 1);
        (sign, word)
    } else {
        ("", tag)
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Python counts strings and dicts, and Jinja's undefined has a length and items too.
fn is_sequence(value: Value) -> bool {
    use ValueKind::{Map, Seq, String, Undefined};
    matches!(value.kind(), Map | Seq | String | Undefined)
}

fn is_iterable(value: Value) -> bool {
    is_sequence(value.clone()) || value.kind() == ValueKind::Iterable
}

fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let style = python::JsonStyle::from_kwargs(&options)?;
    options.assert_all_used()?;
    python::json_dumps(&value, &style)
}

/// str(value), which leaves an escaped text one.
fn string(value: Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        return Ok(value);
    }
    Ok(Value::from(python_text(&value)?))
}

fn python_text(value: &Value) -> Result<String, Error> {
    Ok(python::text(value)?.unwrap_or_else(|| value.to_string()))
}

fn concat(left: Value, right: Value) -> Result<String, Error> {
    let mut text = python_text(&left)?;
    text.push_str(&python_text(&right)?);
    Ok(text)
}

/// `+`, where markupsafe's text escapes the other one.
fn add(left: Value, right: Value) -> Result<Value, Error> {
    match (left.as_str(), right.as_str()) {
        (Some(a), Some(b)) if left.is_safe() != right.is_safe() => {
            let side = |text: &str, safe| if safe { text.to_string() } else { markup(text) };
            Ok(Value::from_safe_string(side(a, left.is_safe()) + &side(b, right.is_safe())))
        }
        _ => {
            let environment = Environment::new();
            let operands = Value::from_pairs([("left", left), ("right", right)]);
            environment.compile_expression("left + right")?.eval(operands)
        }
    }
}

/// jinja2's join(value, d="", attribute=None).
fn join(
    value: Value,
    joiner: Option<Value>,
    attribute: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let joiner = joiner.or(options.get::<Option<Value>>("d")?);
    let joiner = joiner.map_or(Ok(String::new()), |joiner| python_text(&joiner))?;
    let attribute = attribute.or(options.get::<Option<String>>("attribute")?);
    options.assert_all_used()?;
    let mut text = String::new();
    for (i, mut item) in value.try_iter()?.enumerate() {
        for name in attribute.iter().flat_map(|path| path.split('.')) {
            item = match name.parse::<usize>() {
                Ok(index) => item.get_item_by_index(index)?,
                Err(_) => item.get_attr(name)?,
            };
        }
        if i > 0 {
            text.push_str(&joiner);
        }
        text.push_str(&python_text(&item)?);
    }
    Ok(text)
}

/// markupsafe.escape: an escaped text stays as it is.
fn escape(value: Value) -> Result<Value, Error> {
    if value.is_safe() { Ok(value) } else { force_escape(value) }
}

fn force_escape(value: Value) -> Result<Value, Error> {
    Ok(Value::from_safe_string(markup(&python_text(&value)?)))
}

fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn strftime_now(state: &State, format: String) -> Result<String, Error> {
    let now = state.lookup(NOW).and_then(|now| now.as_i64()).unwrap_or(0);
    python::strftime(&format, now).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now: bad format '{format}'"))
    })
}

/// The error and all that caused it, on one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, context: &str) -> Result<String, String> {
        Template::new(source)?.render(context, 0)
    }

    #[test]
    fn blocks_are_trimmed() {
        let source = "{% for m in messages %}\n  {% if m %}\n{{ m }}\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(render(source, r#"{"messages": ["a", "b"]}"#).unwrap(), "a\nb\n");
    }

    #[test]
    fn generation_tags_do_nothing() {
        let source = "a{% generation %}b{%- endgeneration -%} c {%+ generation +%}d{% endgeneration %}";
        assert_eq!(without_generation_tags("{% if x %}y{% endif %}"), "{% if x %}y{% endif %}");
        assert_eq!(render(source, "{}").unwrap(), "abc d");
    }

    #[test]
    fn python_methods_on_strings() {
        let source = "{{ ' a b '.strip().split(' ')|length }}{{ 'x'.upper() if 'ab'.startswith('a') }}";
        assert_eq!(render(source, "{}").unwrap(), "2X");
    }

    #[test]
    fn errors_are_texts() {
        let raised = render("{{ raise_exception('no system role') }}", "{}").unwrap_err();
        assert!(raised.contains("no system role"), "{raised}");
        assert!(!raised.contains('\n'), "{raised}");
        assert!(Template::new("{% if %}").is_err());
        assert!(render("x", "[]").unwrap_err().contains("not a JSON object"));
        assert!(render("x", "{").unwrap_err().contains("not JSON"));
    }

    /// The expected texts are those of jinja2 3.1.6 without autoescape.
    #[test]
    fn floats_are_pythons() {
        let context = r#"{"f": 1e-05, "l": [1e-05, 1e16, "a"], "m": {"a": [0.5, 1e-9]}}"#;
        for (source, text) in [
            ("{{ 1e-05 }} {{ f }}", "1e-05 1e-05"),
            ("{{ 0.1 + 0.2 }} {{ -0.0 }} {{ 1e16 }}", "0.30000000000000004 -0.0 1e+16"),
            ("{{ 1e308 * 10 }} {{ -1e308 * 10 }}", "inf -inf"),
            ("{{ 1e308 * 10 - 1e308 * 10 }}", "nan"),
            ("{{ 123456789.0 * 10 }} {{ 1e15 }}", "1234567890.0 1000000000000000.0"),
            ("{{ l }} {{ m }}", "[1e-05, 1e+16, 'a'] {'a': [0.5, 1e-09]}"),
            ("{{ (1e-05,) }}", "(1e-05,)"),
            ("{{ f ~ 'x' }} {{ 'x' ~ 1e-05 }}", "1e-05x x1e-05"),
            ("{{ f|string }} {{ l|join(',') }}", "1e-05 1e-05,1e+16,a"),
            ("{{ [{'a': f}]|join(attribute='a') }}", "1e-05"),
            ("{{ '%s'|format(f) }} {{ '{}'.format(f) }}", "1e-05 1e-05"),
            ("{% set x = 1e-05 %}{{ x }} {{ x * 10 }} {{ f|tojson }}", "1e-05 0.0001 1e-05"),
            ("{% macro m(x) %}{{ x }}{% endmacro %}{{ m(f) }}", "1e-05"),
            ("{{ 1 }} {{ 1.0 }} {{ 1 ~ none ~ true }} {{ [1, none] }}", "1 1.0 1NoneTrue [1, None]"),
            ("{{ 1.5|round }} {{ 7 / 2 }} {{ 2.5|int }}", "2.0 3.5 2"),
        ] {
            assert_eq!(render(source, context).unwrap(), text, "{source}");
        }
    }

    #[test]
    fn texts_are_escaped() {
        for (source, text) in [
            ("{{ '<' | e }} {{ '<'|escape }}", "&lt; &lt;"),
            ("{{ '<&>\"\\'/' | e }}", "&lt;&amp;&gt;&#34;&#39;/"),
            ("{{ '<'|e|e }} {{ '<'|e|forceescape }}", "&lt; &amp;lt;"),
            ("{{ '<'|safe|e }} {{ '<'|safe|forceescape }} {{ '<'|safe }}", "< &lt; <"),
            ("{{ ('<'|e) + '<' }} {{ '<' + ('>'|e) }}", "&lt;&lt; &lt;&gt;"),
            ("{{ ('<'|e) ~ '<' }} {{ '<' ~ '<'|e }}", "&lt;< <&lt;"),
            ("{{ 1|e }} {{ none|e }} {{ [1, '<']|e }}", "1 None [1, &#39;&lt;&#39;]"),
            ("{{ 1 + 2 }} {{ ([1] + [2])|e }} {{ 1e-05|e }}", "3 [1, 2] 1e-05"),
            ("{% filter e %}<b>{% endfilter %}", "&lt;b&gt;"),
            ("{{ {'a': '<'}|tojson|e }}", "{&#34;a&#34;: &#34;&lt;&#34;}"),
        ] {
            assert_eq!(render(source, "{}").unwrap(), text, "{source}");
        }
    }

    #[test]
    fn endless_templates_run_out_of_fuel() {
        let source = "{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}";
        assert!(render(source, "{}").is_err());
    }

    #[test]
    fn dates_are_of_the_given_time() {
        assert_eq!(render("{{ strftime_now('%Y') }}", "{}").unwrap(), "1970");
        assert!(render("{{ strftime_now('a' * 5000) }}", "{}").is_err());
    }
}
