"""Makes small tokenizers of the kinds that models of 2026 have, and records what they encode.

usage: python tools/record_tokenizers.py FOLDER   (run by hand; FOLDER: tests/data/tokenizers/made)

Each kind has the parts of a published one (normalizer, pattern, model, added tokens in its order), with a vocabulary
of a few hundred tokens that is trained on the texts below. FOLDER/NAME.json is the tokenizer.json; FOLDER/expected.json
has the texts (200 lines in 12 scripts, source code, added tokens, odd spaces) and per tokenizer their ids, the special
tokens around them, and what the ids decode to. Needs the Python package tokenizers.
"""
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SCRIPTS = {
    "latin": "the quick brown fox jumps over a lazy dog and Größe naïve façade Übermut coöperate smørrebrød żółw don't I'll WE'RE they've HTTPServer parseJSON camelCase XMLHttpRequest",
    "cyrillic": "Быстрая коричневая лиса прыгает через ленивую собаку и ещё Їжак ќерка объект МОСКВА",
    "greek": "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί ΑΘΗΝΑ ὕδωρ",
    "hebrew": "השועל החום המהיר קופץ מעל הכלב העצלן שָׁלוֹם",
    "arabic": "الثعلب البني السريع يقفز فوق الكلب الكسول مُحَمَّد ٣٤٥ فارسی گچپژ",
    "devanagari": "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है क्षत्रिय १२३",
    "bengali": "দ্রুত বাদামী শিয়াল অলস কুকুরের উপর লাফ দেয় ৪৫",
    "tamil": "விரைவான பழுப்பு நரி சோம்பேறி நாயின் மேல் குதிக்கிறது",
    "thai": "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ ๑๒๓",
    "han": "敏捷的棕色狐狸跳过了懒狗 我们在學習機器翻譯 二〇二六年 㐂𠮷",
    "kana": "すばやい茶色のキツネはのろまな犬を飛び越える ﾊﾝｶｸ ゔァー",
    "hangul": "빠른 갈색 여우가 게으른 개를 뛰어넘습니다 한국어 ㄱㄴㄷ",
}
GLUE = [" ", " ", " ", " ", "  ", ", ", ". ", "! ", "? ", " - ", "/", "_", "'", "\"", "(", ")", ": ", "... ", "\t", "\n", "\n\n", " \n  ", "\r\n", "\u00a0", "\u3000", "。", "、", "।", "؟ ", "…", "—"]
EXTRA = ["0", "7", "42", "123", "1234567", "3.14", "1,000", "2026-11-30", "½", "²", "Ⅷ", "١٢", "👍", "👩‍👩‍👧", "🇳🇴", "e\u0301", "ﬁ", "ſ", "K", "İ", "ß", "ẞ", "@user", "#tag", "https://a.b/c?d=e&f=%20", "a@b.co", "$5", "€", "™", "\u200b", "\ufeff", "\u2028", "\u0085", "\u0301", "\ud7fb", "\ue000", "\U000e0100", "\x00", "\x1f", "\x7f"]
CODE = """def main(argv: list[str]) -> int:
    \"\"\"Adds two numbers; it's easy.\"\"\"
\ttotal = sum(int(x) for x in argv[1:])  # TODO: floats?
    return 0 if total != 0x7fFF else -1


#include <vector>
template <typename T> std::vector<T> f(const T&& x) { return {x, 1'000'000}; }
    if (!a && b || c->d[i] == '\\n') { s += "\\u00e9\\t"; }   /* comment */
SELECT name, COUNT(*) FROM "t" WHERE x <= 3.5e-10 GROUP BY 1;
<div class="a b" onclick='f(1)'>&nbsp;Text</div><!-- x -->
fn main() { let v: Vec<u8> = vec![0u8; 16]; println!("{:?}", v); }
λx.x ∘ g ≠ ∅ → ∀ε>0 ∃δ: |x−a|<δ
$ git commit -m "fix: don't" && echo $HOME/*.py | grep -E '^[a-z]+$'
{"key": [1, 2.0, null, true], "nested": {"a": "b"}}
""".split("\n")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
DEEPSEEK = [r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]


def lines():
    draw = random.Random(2026)
    words = {name: text.split() for name, text in SCRIPTS.items()}
    result = []
    for i in range(200):
        script = list(SCRIPTS)[i % len(SCRIPTS)]
        text = draw.choice(["", "", " ", "  ", "\n"])
        for _ in range(draw.randint(3, 14)):
            kind = draw.random()
            text += draw.choice(EXTRA if kind < .15 else words["latin"] if kind < .25 else words[script])
            text += draw.choice(GLUE)
        result.append(text)
    return result


def special_lines(tokens):
    draw = random.Random(7)
    result = ["".join(tokens), " ".join(tokens), "  ".join(tokens) + " "]
    for _ in range(20):
        text = ""
        for _ in range(6):
            text += draw.choice(tokens + ["a", " the ", "\n", " ", "  ", "x", "Größe", "<", ">", "|", "字", "\t\t", "\n\n\n"])
        result.append(text)
    return result


def byte_level(pattern, *, ignore_merges=False, normalizer=None, size=500):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    patterns = [pattern] if isinstance(pattern, str) else pattern
    splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def byte_fallback(normalizer, pre_tokenizer, *, size=900):
    """As sentencepiece: characters that are not in the vocabulary become their bytes."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizer
    if pre_tokenizer:
        trained.pre_tokenizer = pre_tokenizer
    trained.train_from_iterator([t for t in TEXTS if t.isascii()] + list(SCRIPTS.values())[:3], trainers.BpeTrainer(vocab_size=size - 260, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    vocab = {t: i for i, t in enumerate(["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{b:02X}>" for b in range(256)])}
    for token in sorted(model["vocab"], key=model["vocab"].get):
        vocab.setdefault(token, len(vocab))
    merges = [tuple(m) for m in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def o200k():
    t = byte_level(O200K)
    t.add_special_tokens(["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>"])
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t, ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|endoftext|>", "<|end", "|>"]


def kimi():
    t = byte_level(KIMI, ignore_merges=True)
    t.add_special_tokens(["[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>"])
    t.add_tokens(["<|tool_call_begin|>", "<|tool_call_argument_begin|>"])
    return t, ["<|im_user|>", "<|im_end|>", "[BOS]", "<|tool_call_begin|>", "[", "]"]


def qwen():
    t = byte_level(QWEN, normalizer=normalizers.NFC())
    t.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"])
    t.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False), AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return t, ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "e\u0301"]


def gemma():
    t = byte_fallback(normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    t.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<|channel>", "<channel|>"])
    t.add_tokens([AddedToken(x, normalized=False) for x in ["\n", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "▁▁▁▁", "<table>", "</table>", "\t", "\t\t", "<unused0>", "<unused1>"]])
    t.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)])
    return t, ["<start_of_turn>", "<end_of_turn>", "\n\n", "<table>", "\t\t", "<unused1>", "▁▁", "<0x0A>"]


def llama2():
    t = byte_fallback(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken("<unk>", normalized=True), AddedToken("<bos>", normalized=True), AddedToken("<eos>", normalized=True)])
    t.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)])
    return t, ["<bos>", "<eos>", "<unk>", "[INST]", "▁"]


def metaspace():
    t = byte_fallback(normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]), pre_tokenizers.Metaspace("▁", "first", False))
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", "first", False)])
    t.add_special_tokens([AddedToken("<mask>", lstrip=True), "<eos>"])
    return t, ["<mask>", " <mask> ", "<eos>"]


def unigram():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", True)
    t.train_from_iterator([x for x in TEXTS if "\x00" not in x], trainers.UnigramTrainer(vocab_size=500, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    t.decoder = decoders.Metaspace("▁", "always", True)
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return t, ["<s>", "</s>", "<unk>"]


def deepseek():
    t = byte_level(DEEPSEEK)
    t.add_special_tokens(["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"])
    t.add_tokens(["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"])
    t.post_processor = processors.TemplateProcessing(single="<｜begin▁of▁sentence｜> $A", special_tokens=[("<｜begin▁of▁sentence｜>", t.token_to_id("<｜begin▁of▁sentence｜>"))])
    return t, ["<｜User｜>", "<｜Assistant｜>", "<think>", "<｜end▁of▁sentence｜>", "｜"]


def tekken():
    t = byte_level(TEKKEN, ignore_merges=True)
    t.add_special_tokens(["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[ARGS]"])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", t.token_to_id("<s>"))])
    return t, ["[INST]", "[/INST]", "</s>", "[ARGS]", "[INST"]


def cl100k():
    t = byte_level(CL100K)
    t.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    return t, ["<|begin_of_text|>", "<|eot_id|>"]


def odd_tokens():
    """Added tokens that begin each other, strip, want whole words, are ordinary tokens, and stand in no order."""
    t = byte_level(QWEN, normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]))
    t.add_tokens([AddedToken("<a><b>", normalized=False), AddedToken("<a>", normalized=False), AddedToken("<a><b><c>", normalized=False)])
    t.add_special_tokens([AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True), AddedToken("<lr>", lstrip=True, rstrip=True)])
    t.add_tokens([AddedToken("The", single_word=True, normalized=False), AddedToken("GRÖSSE", normalized=True), AddedToken("  ", normalized=False), AddedToken("ab", single_word=True), AddedToken("the", normalized=True, lstrip=True)])
    t.add_special_tokens(["<z>", "<y>"])
    made = json.loads(t.to_str())
    made["added_tokens"] = made["added_tokens"][::-1]  # files are read in the order of ids
    return Tokenizer.from_str(json.dumps(made)), ["<a><b>", "<a>", "<a><b><c>", "<l>", "<r>", "<lr>", "The", "the", "THE", "grösse", "GRÖSSE", "ab", "<z>", "<y>"]


TEXTS = lines() + CODE
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
texts = {"lines": TEXTS}
expected = {}
for make in (o200k, kimi, qwen, gemma, llama2, metaspace, unigram, deepseek, tekken, cl100k, odd_tokens):
    name = make.__name__
    tokenizer, tokens = make()
    tokenizer.save(str(folder / f"{name}.json"), pretty=False)
    tokenizer = Tokenizer.from_file(str(folder / f"{name}.json"))
    texts[name] = special_lines(tokens)
    ids = [[tokenizer.encode(t, add_special_tokens=special).ids for t in TEXTS + texts[name]] for special in (False, True)]
    around = tokenizer.encode("", add_special_tokens=True).ids  # what stands around a text
    first = len(around) - (around[-1:] == [tokenizer.token_to_id("</s>")])
    assert all(around[:first] + list(p) + around[first:] == list(s) for p, s in zip(*ids)), name
    all_texts = TEXTS + texts[name]
    decoded = {skip: [tokenizer.decode(i, skip_special_tokens=skip) for i in ids[1]] for skip in (False, True)}
    expected[name] = {"ids": ids[0], "before": around[:first], "after": around[first:],
                      # By the number of the text, where it is not the text once more.
                      "decoded": {i: d for i, d in enumerate(decoded[False]) if d != all_texts[i]},
                      "decoded_without_special": {i: d for i, d in enumerate(decoded[True]) if d != decoded[False][i]}}
    print(name, tokenizer.get_vocab_size(), sum(map(len, ids[0])), "ids", around)
(folder / "expected.json").write_text(json.dumps({"texts": texts, "expected": expected}, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf8")
