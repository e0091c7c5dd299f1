//! A tokenizer.json as it is, without the parts that depend on anything but the text.

use std::sync::OnceLock;

use tokenizers::{ModelWrapper, Tokenizer};

pub struct Tokens {
    tokenizer: Tokenizer,
    /// The same, with special tokens in a text read as text; made when it is first asked for.
    special_as_text: OnceLock<Tokenizer>,
}

impl Tokens {
    /// Reads the text of a tokenizer.json.
    pub fn new(json: &str) -> Result<Tokens, String> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
        tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
        tokenizer.with_padding(None);
        if let ModelWrapper::BPE(bpe) = tokenizer.get_model() {
            if bpe.dropout.is_some() {
                let mut without_dropout = bpe.clone();
                without_dropout.dropout = None;
                tokenizer.with_model(without_dropout);
            }
        }
        Ok(Tokens { tokenizer, special_as_text: OnceLock::new() })
    }

    pub fn encode(
        &self,
        text: &str,
        add_special: bool,
        special_as_text: bool,
    ) -> Result<Vec<u32>, String> {
        let tokenizer = if special_as_text { self.as_text() } else { &self.tokenizer };
        let encoding = tokenizer.encode_fast(text, add_special).map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    fn as_text(&self) -> &Tokenizer {
        self.special_as_text.get_or_init(|| {
            let mut tokenizer = self.tokenizer.clone();
            tokenizer.set_encode_special_tokens(true);
            tokenizer
        })
    }

    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        self.tokenizer.decode(ids, skip_special).map_err(|e| e.to_string())
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}
