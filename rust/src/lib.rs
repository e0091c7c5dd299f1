//! The C border of include/lewis_text.h: pointers in, results out, panics caught.
//! What is behind it: tokens.rs, chat.rs and find.rs, which know nothing of pointers. memory.rs is
//! where their memory comes from.

mod border;
mod builtins;
mod chat;
mod data;
mod find;
mod http;
mod memory;
mod parquet;
mod proxy;
mod python;
mod table;
mod tokens;
mod unpack;

use border::{guard, str_arg, take, Ids, Text};
use chat::Template;
use find::Expression;
use tokens::Tokens;

#[global_allocator]
static MEMORY: memory::Memory = memory::Memory;

const ADD_SPECIAL_TOKENS: u32 = 1;
const SPECIAL_TOKENS_AS_TEXT: u32 = 2;

// Safety of all functions below: the caller keeps the promises of the header, that is, pointers are
// valid for the sizes given with them and objects are those that a ..._new handed out.

#[no_mangle]
pub unsafe extern "C" fn lewis_tokenizer_new(
    json: *const u8,
    json_size: usize,
    tokenizer: *mut *mut Tokens,
    error: *mut Text,
) -> bool {
    guard(error, || {
        *tokenizer = Box::into_raw(Box::new(Tokens::new(str_arg(json, json_size)?)?));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_tokenizer_free(tokenizer: *mut Tokens) {
    take(tokenizer);
}

#[no_mangle]
pub unsafe extern "C" fn lewis_tokenizer_encode(
    tokenizer: *const Tokens,
    text: *const u8,
    text_size: usize,
    how: u32,
    ids: *mut Ids,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let text = str_arg(text, text_size)?;
        let add_special = how & ADD_SPECIAL_TOKENS != 0;
        let special_as_text = how & SPECIAL_TOKENS_AS_TEXT != 0;
        *ids = Ids::new((*tokenizer).encode(text, add_special, special_as_text)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_tokenizer_decode(
    tokenizer: *const Tokens,
    ids: *const u32,
    count: usize,
    skip_special_tokens: bool,
    text: *mut Text,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let ids = if count == 0 { &[] } else { std::slice::from_raw_parts(ids, count) };
        *text = Text::new((*tokenizer).decode(ids, skip_special_tokens)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_tokenizer_token_to_id(
    tokenizer: *const Tokens,
    token: *const u8,
    token_size: usize,
    id: *mut i64,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let found = (*tokenizer).token_to_id(str_arg(token, token_size)?);
        *id = found.map_or(-1, i64::from);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_tokenizer_id_to_token(
    tokenizer: *const Tokens,
    id: u32,
    token: *mut Text,
    found: *mut bool,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let name = (*tokenizer).id_to_token(id);
        *found = name.is_some();
        *token = Text::new(name.unwrap_or_default());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_tokenizer_vocab_size(
    tokenizer: *const Tokens,
    size: *mut usize,
    error: *mut Text,
) -> bool {
    guard(error, || {
        *size = (*tokenizer).vocab_size();
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_template_new(
    source: *const u8,
    source_size: usize,
    chat_template: *mut *mut Template,
    error: *mut Text,
) -> bool {
    guard(error, || {
        *chat_template = Box::into_raw(Box::new(Template::new(str_arg(source, source_size)?)?));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_template_free(chat_template: *mut Template) {
    take(chat_template);
}

#[no_mangle]
pub unsafe extern "C" fn lewis_template_render(
    chat_template: *const Template,
    context: *const u8,
    context_size: usize,
    now: i64,
    text: *mut Text,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let context = str_arg(context, context_size)?;
        *text = Text::new((*chat_template).render(context, now)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_regex_new(
    pattern: *const u8,
    pattern_size: usize,
    regex: *mut *mut Expression,
    groups: *mut usize,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let expression = Expression::new(str_arg(pattern, pattern_size)?)?;
        *groups = expression.groups();
        *regex = Box::into_raw(Box::new(expression));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_regex_free(regex: *mut Expression) {
    take(regex);
}

#[no_mangle]
pub unsafe extern "C" fn lewis_regex_find_all(
    regex: *const Expression,
    text: *const u8,
    text_size: usize,
    spans: *mut Ids,
    error: *mut Text,
) -> bool {
    guard(error, || {
        *spans = Ids::new((*regex).find_all(str_arg(text, text_size)?)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_regex_is_match(
    regex: *const Expression,
    text: *const u8,
    text_size: usize,
    found: *mut bool,
    error: *mut Text,
) -> bool {
    guard(error, || {
        *found = (*regex).is_match(str_arg(text, text_size)?)?;
        Ok(())
    })
}

#[no_mangle]
pub extern "C" fn lewis_text_limit_memory(more: u64) {
    memory::limit(more);
}

#[no_mangle]
pub unsafe extern "C" fn lewis_text_free(text: Text) {
    text.free();
}

#[no_mangle]
pub unsafe extern "C" fn lewis_ids_free(ids: Ids) {
    ids.free();
}

#[no_mangle]
pub unsafe extern "C" fn lewis_text_panic(error: *mut Text) -> bool {
    guard(error, || panic!("a panic on purpose"))
}
