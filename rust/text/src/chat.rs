//! Chat templates: Jinja rendered as transformers' apply_chat_template renders it.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::python;

/// A template may run this many instructions and make 64 times as many bytes. Long conversations
/// need less than a hundredth of it.
const BUDGET: u64 = 10_000_000;

/// Where strftime_now finds the time; templates cannot spell it by accident.
const NOW: &str = "lewis now";

const NAME: &str = "chat template";

pub struct Template {
    environment: Environment<'static>,
}

impl Template {
    /// Compiles Jinja source.
    pub fn new(source: &str) -> Result<Template, String> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(|e| describe(&e))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(BUDGET));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment.add_test("sequence", is_sequence);
        environment.add_test("iterable", is_iterable);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|e| describe(&e))?;
        Ok(Template { environment })
    }

    /// Renders with the members of a JSON object as variables.
    pub fn render(&self, context: &str, now: i64) -> Result<String, String> {
        let context: serde_json::Value =
            serde_json::from_str(context).map_err(|e| format!("the context is not JSON: {e}"))?;
        let serde_json::Value::Object(variables) = context else {
            return Err("the context is not a JSON object".to_string());
        };
        let variables = variables.into_iter().map(|(name, value)| (name, to_value(value)));
        let now = std::iter::once((NOW.to_string(), Value::from(now)));
        let template = self.environment.get_template(NAME).map_err(|e| describe(&e))?;
        template.render(Value::from_pairs(variables.chain(now))).map_err(|e| describe(&e))
    }
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
