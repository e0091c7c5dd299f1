#!/usr/bin/env python3
"""A small SentencePiece tokenizer as GGUF has it, and the ids that sentencepiece itself makes.

usage: make_sentencepiece.py      (writes sentencepiece.json beside itself; needs sentencepiece)
"""
import io
import json
import pathlib

import sentencepiece as spm

here = pathlib.Path(__file__).resolve().parent
lines = json.loads((here / "../../tokenizers/made/expected.json").read_text())["texts"]["lines"]
lines = [line for line in lines if "\0" not in line]
model = io.BytesIO()
spm.SentencePieceTrainer.train(
    sentence_iterator=iter(lines * 3), model_writer=model, model_type="bpe", vocab_size=700,
    byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity",
    remove_extra_whitespaces=False, add_dummy_prefix=True, num_threads=1, minloglevel=2)
sp = spm.SentencePieceProcessor(model_proto=model.getvalue())


def kind(i):
    return 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1


count = sp.get_piece_size()
ids = [sp.encode(line) for line in lines]
(here / "sentencepiece.json").write_text(json.dumps(
    {"tokens": [sp.id_to_piece(i) for i in range(count)],
     "scores": [sp.get_score(i) for i in range(count)],
     "types": [kind(i) for i in range(count)],
     "texts": lines, "ids": ids}, ensure_ascii=False, separators=(",", ":")) + "\n")
