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
