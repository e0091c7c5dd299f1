//! Regular expressions.

use std::time::{Duration, Instant};

use regex::{Regex, RegexBuilder};

/// Patterns come from files of strangers. One search takes time in proportion to the product of the
/// pattern and the text, so both have limits; Unicode's letters alone are 100 KB.
const MOST_PATTERN: usize = 10_000;
const MOST_COMPILED: usize = 4 << 20;
const MOST_TEXT: usize = 64 << 20;
/// All matches can take the square of that, where each search runs to the end of the text: they get
/// so much time and a microsecond per byte.
const MOST_TIME: Duration = Duration::from_secs(1);

pub struct Expression(Regex);

impl Expression {
    pub fn new(pattern: &str) -> Result<Expression, String> {
        if pattern.len() > MOST_PATTERN {
            return Err(format!("{} bytes are too long, {MOST_PATTERN} is the most", pattern.len()));
        }
        RegexBuilder::new(pattern).size_limit(MOST_COMPILED).build().map(Expression).map_err(|e| {
            // The crate draws the place under the pattern, in several lines; the last one says it.
            let text = e.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_string()
        })
    }

    pub fn is_match(&self, text: &str) -> Result<bool, String> {
        check_length(text)?;
        Ok(self.0.is_match(text))
    }

    pub fn groups(&self) -> usize {
        self.0.captures_len()
    }

    /// Begin and end of each group of each match.
    pub fn find_all(&self, text: &str) -> Result<Vec<u32>, String> {
        check_length(text)?;
        let begin = Instant::now();
        let most = MOST_TIME + Duration::from_micros(text.len() as u64);
        let mut spans = Vec::new();
        for (i, captures) in self.0.captures_iter(text).enumerate() {
            if i % 64 == 63 && begin.elapsed() > most {
                return Err(format!("the matches in {} bytes take too long", text.len()));
            }
            for group in captures.iter() {
                let (begin, end) = group.map_or((u32::MAX, u32::MAX), |g| (g.start() as u32, g.end() as u32));
                spans.extend([begin, end]);
            }
        }
        Ok(spans)
    }
}

fn check_length(text: &str) -> Result<(), String> {
    if text.len() <= MOST_TEXT {
        return Ok(());
    }
    Err(format!("a text of {} bytes is too long, {MOST_TEXT} is the most", text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_groups() {
        let expression = Expression::new(r"(\d+)(x)?").unwrap();
        assert_eq!(expression.groups(), 3);
        let none = u32::MAX;
        assert_eq!(
            expression.find_all("a12 3x").unwrap(),
            [1, 3, 1, 3, none, none, 4, 6, 4, 5, 5, 6]
        );
        assert!(expression.find_all("").unwrap().is_empty());
    }

    #[test]
    fn limits() {
        assert!(Expression::new(&"a".repeat(MOST_PATTERN + 1)).is_err());
        assert!(Expression::new(&"(".repeat(5000)).is_err());
        assert!(Expression::new(r"((\w{1,99}){1,99}){1,99}").is_err());
        let to_the_end = Expression::new(r".*[^A-Z]|[A-Z]").unwrap();
        assert!(to_the_end.find_all(&"A".repeat(1 << 20)).is_err());
        assert!(Expression::new("(.*)*z").unwrap().find_all(&"y".repeat(1 << 20)).is_ok());
        assert!(!Expression::new("(a|aa)+$").unwrap().is_match(&("a".repeat(1 << 20) + "b")).unwrap());
    }

    #[test]
    fn errors_are_one_line() {
        let error = Expression::new("a(b").err().expect("an unclosed group");
        assert!(!error.contains('\n') && error.contains("unclosed group"), "{error}");
    }
}
