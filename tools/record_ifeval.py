#!/usr/bin/env python3
"""Records what lm-evaluation-harness's checkers (task ifeval) say of responses, for
tests/eval/ifeval_test.cc.

usage: tools/record_ifeval.py IFEVAL_DATA TEXT... > tests/data/eval/ifeval.json

Needs lm_eval, nltk, langdetect and immutabledict (recorded with 0.4.13, 3.10.4 and 1.0.9).
IFEVAL_DATA: ifeval_input_data.jsonl. NLTK's English model of sentences is a download, so one is
trained by NLTK on TEXTs: recorded with the test text of WikiText-2 and eight books.
"""
import json
import random
import sys
import types

import langdetect
from lm_eval.tasks.ifeval import instructions_util, utils
from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

langdetect.DetectorFactory.seed = 0

RESPONSES = [
    "Hello world.",
    "No punctuation at all",
    "I am fine. How are you? Great! Thanks.",
    "Mr. Smith went to Washington. He met Dr. Jones at 5 p.m. on Friday. They talked.",
    "First, we eat; then, we sleep. Finally, e.g. we wake up, i.e. we rise.",
    "He lives in the U.S. The country is large. J. R. R. Tolkien wrote books.",
    "Wait... what? Really?! Yes. \"Stop!\" he said. (It was late.) Done.",
    "1. Apples\n2. Pears\n3. Plums are sweet. They are blue.",
    "* one\n* two\n* three",
    "- one\n- two\n\n* three\n** not one",
    "Some text.\n* a point\n  * a nested point\n- a dash\n",
    "*highlight one* and **highlight two** and *three*",
    "** ** and * * and *x*",
    "<<Title>>\n\nBody text here.",
    "<< >>\n<<<A>>>",
    "PARAGRAPH 1\nText one.\nPARAGRAPH 2\nText two.",
    "Section 1 one Section 2 two Section3 three SECTION 4 four",
    "First response.\n******\nSecond response.",
    "Same\n******\nSame",
    "******\nOne\n******\nTwo\n******",
    "One\n******\n\n******\nTwo",
    "Paragraph one.\n***\nParagraph two.\n***\nParagraph three.",
    "***\nOne.\n***\nTwo.\n***",
    "One.\n***\n\n***\nTwo.",
    "Weekend plans are good.\n\nPresident of the club.\n\nSummary: all good.\n\nEnd.",
    "\"Weekend\" plans.\n\n\n\n'President, hello.\n\nSummary!",
    "```json\n{\"a\": [1, 2, 3], \"b\": null}\n```",
    "{\"a\": 1}",
    "{'a': 1}",
    "Here is JSON: {\"a\": 1}",
    "```\n[1, 2]\n```",
    "\"quoted all\"",
    "\"",
    "\"Is there anything else I can help with?\"",
    "Sure.\nIs there anything else I can help with?",
    "IS THERE ANYTHING ELSE I CAN HELP WITH?  ",
    "Yours,\nBob\n\nP.S. I love you.",
    "Text\n\nP.P.S I forgot. P. P. S. again",
    "p.s. lower case",
    "P.S without the second dot",
    "My answer is yes.",
    "I think: My answer is maybe. Or not.",
    "my answer is no.",
    "[name], [address] and [phone\nnumber] and []",
    "Dear [your name], this is [company] in [city] on [date] with [item] and [price] and [x].",
    "THIS IS ALL IN CAPITAL LETTERS AND IT IS ENGLISH, WITHOUT ANY DOUBT.",
    "this is all in small letters and it is english without any doubt",
    "This HAS some CAPITAL words: NASA, U.S.A., WELL-KNOWN, IT'S and DON'T, 3D A I.",
    "the story of the war and the peace: story STORY Story war peace peaceful warlike stories",
    "Rock and rocket, field and fields. Thanks for the issue!",
    "tttt TTT t! # ## !!!! ###",
    "Correlated with experiencing mom and mother. Argentinian food.",
    "Dies ist ein deutscher Text, der nicht sehr lang ist, aber er hat viele Wörter und Sätze.",
    "Ceci est un texte en français, qui n'est pas très long mais il a des mots et des phrases.",
    "Este es un texto en español que no es muy largo, pero tiene muchas palabras y frases.",
    "Este é um texto em português que não é muito longo, mas tem muitas palavras e também frases.",
    "Questo è un testo in italiano che non è molto lungo, ma ha molte parole e anche delle frasi.",
    "Tämä on suomenkielinen teksti, joka ei ole kovin pitkä, mutta siinä on monta sanaa ja lausetta.",
    "Đây là một văn bản tiếng Việt không dài lắm nhưng có nhiều từ và câu được viết.",
    "Hii ni maandishi ya Kiswahili ambayo si marefu sana lakini yana maneno mengi na sentensi za kutosha.",
    "यह हिन्दी में लिखा हुआ एक पाठ है जो बहुत लंबा नहीं है लेकिन इसमें कई शब्द और वाक्य हैं।",
    "हा मराठीत लिहिलेला मजकूर आहे जो फार लांब नाही पण त्यात अनेक शब्द आणि वाक्ये आहेत.",
    "यो नेपालीमा लेखिएको पाठ हो जुन धेरै लामो छैन तर यसमा धेरै शब्द र वाक्यहरू छन्।",
    "Это русский текст, который не очень длинный, но в нём много слов и предложений.",
    "Това е български текст, който не е много дълъг, но в него има много думи и изречения.",
    "هذا نص باللغة العربية ليس طويلا جدا ولكن فيه كلمات وجمل كثيرة.",
    "این یک متن فارسی است که خیلی طولانی نیست اما کلمات و جملات زیادی در آن هست.",
    "یہ اردو میں لکھا ہوا ایک متن ہے جو بہت لمبا نہیں ہے لیکن اس میں بہت سے الفاظ اور جملے ہیں۔",
    "ಇದು ಕನ್ನಡದಲ್ಲಿ ಬರೆದ ಪಠ್ಯ.", "ਇਹ ਪੰਜਾਬੀ ਵਿੱਚ ਲਿਖਿਆ ਪਾਠ ਹੈ।", "આ ગુજરાતીમાં લખાયેલું લખાણ છે.",
    "ఇది తెలుగులో రాసిన పాఠ్యం.", "இது தமிழில் எழுதப்பட்ட உரை.", "এটি বাংলায় লেখা একটি পাঠ্য।",
    "นี่คือข้อความภาษาไทย", "이것은 한국어로 쓰인 글입니다.", "これは日本語で書かれた文章です。",
    "12345 67890", "",  "   \n\n ",
    "Title line\nThe first rule is followed here, without doubt.\nLast line",
    "*This* response **uses** stars.\n\n*P.S.* a star",
    "End of a sentence.** And another one.* Third: done.)\nFourth line without end",
    "Prices rose by 3.5 percent. No. 5 is best. See fig. 3 or vol. 2, etc. The end.",
    "A question? An answer! \"Quoted.\" 'Single.' [Bracket.] End",
]


def checks(path):
    """Every rule with up to six different arguments of the data."""
    seen = {}
    with open(path) as file:
        for line in file:
            row = json.loads(line)
            for rule, arguments in zip(row["instruction_id_list"], row["kwargs"]):
                arguments = {k: v for k, v in arguments.items() if v}
                letter = arguments.get("letter", "a")
                if not (letter.isascii() and letter.isalpha()):
                    continue  # the harness draws another letter at random
                kept = seen.setdefault(rule, [])
                if arguments not in kept:
                    kept.append(arguments)
    draw = random.Random(1)
    for rule in sorted(seen):
        kept = seen[rule] if rule == "language:response_language" else \
            draw.sample(seen[rule], min(6, len(seen[rule])))
        for arguments in kept:
            yield rule, arguments
    for count in (1, 2, 3, 4, 5):  # what short responses can reach
        yield "length_constraints:number_sentences", {"num_sentences": count, "relation": "at least"}
        yield "length_constraints:number_paragraphs", {"num_paragraphs": count}
        yield "length_constraints:number_words", {"num_words": 4 * count, "relation": "less than"}
        yield "detectable_format:number_bullet_lists", {"num_bullets": count}
        yield "detectable_format:number_highlighted_sections", {"num_highlights": count}
        yield "detectable_content:number_placeholders", {"num_placeholders": count}
        yield "change_case:capital_word_frequency", {"capital_frequency": 2 * count,
                                                     "capital_relation": "at least"}
        yield "length_constraints:nth_paragraph_first_word", {
            "num_paragraphs": count, "nth_paragraph": max(1, count - 1),
            "first_word": ["weekend", "president", "summary"][count % 3]}
    for marker, number in (("PARAGRAPH", 2), ("Section", 3), ("SECTION", 1)):
        yield "detectable_format:multiple_sections", {"section_spliter": marker,
                                                      "num_sections": number}


def main():
    trainer = PunktTrainer()
    for path in sys.argv[2:]:
        trainer.train(open(path, encoding="utf-8").read(), finalize=False)
    sentences = PunktSentenceTokenizer(trainer.get_params())
    instructions_util._get_sentence_tokenizer = lambda: sentences
    instructions_util.nltk.word_tokenize = lambda text: [
        token for sentence in sentences.tokenize(text)
        for token in instructions_util.nltk.tokenize.NLTKWordTokenizer().tokenize(sentence)]
    rules = list(checks(sys.argv[1]))
    cases = []
    for response in RESPONSES:
        row = types.SimpleNamespace(prompt="", key=0, instruction_id_list=[r for r, _ in rules],
                                    kwargs=[a for _, a in rules])
        strict = utils.test_instruction_following_strict(row, response).follow_instruction_list
        loose = utils.test_instruction_following_loose(row, response).follow_instruction_list
        cases.append({"response": response, "sentences": len(sentences.tokenize(response)),
                      "strict": "".join("01"[v] for v in strict),
                      "loose": "".join("01"[v] for v in loose)})
    json.dump({"instruction_id_list": [r for r, _ in rules], "kwargs": [a for _, a in rules],
               "cases": cases}, sys.stdout, ensure_ascii=False, indent=0)
    print()


main()
