//! Regular expressions.

use regex::Regex;

pub struct Expression(Regex);

impl Expression {
    pub fn new(pattern: &str) -> Result<Expression, String> {
        Regex::new(pattern).map(Expression).map_err(|e| {
            // The crate draws the place under the pattern, in several lines; the last one says it.
            let text = e.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_string()
        })
    }

    pub fn groups(&self) -> usize {
        self.0.captures_len()
    }

    /// Begin and end of each group of each match.
    pub fn find_all(&self, text: &str) -> Result<Vec<u32>, String> {
        if text.len() >= u32::MAX as usize {
            return Err(format!("a text of {} bytes is too long", text.len()));
        }
        let mut spans = Vec::new();
        for captures in self.0.captures_iter(text) {
            for group in captures.iter() {
                let (begin, end) = group.map_or((u32::MAX, u32::MAX), |g| (g.start() as u32, g.end() as u32));
                spans.extend([begin, end]);
            }
        }
        Ok(spans)
    }
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
    fn errors_are_one_line() {
        let error = Expression::new("a(b").err().expect("an unclosed group");
        assert!(!error.contains('\n') && error.contains("unclosed group"), "{error}");
    }
}
