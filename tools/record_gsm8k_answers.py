"""Records what Python's re makes of the extraction rules of lm-evaluation-harness's gsm8k and gsm8k_cot (version 3),
for tests/eval/gsm8k_answer_test.cc.
usage: python tools/record_gsm8k_answers.py > tests/data/eval/gsm8k_answers.json"""
import json
import random
import re

STRICT, FLEXIBLE = r"#### (\-?[0-9\.\,]+)", r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
CHAIN = r"The answer is (\-?[0-9\.\,]+)."
IGNORED = [",", r"\$", r"(?s).*#### ", r"\.$"]
STOPS = ["Question:", "</s>", "<|im_end|>"]


def extract(pattern, select, text):
    found = re.findall(pattern, text)
    if not found:
        return "[invalid]"
    match = found[select]
    if isinstance(match, tuple):
        match = [group for group in match if group][0]
    return match.strip()


def normalize(text):
    for pattern in IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()


def cut(text):
    for stop in STOPS:
        text = text.split(stop)[0]
    return text


BY_HAND = [
    "", " ", "no number at all", "The answer is 18.", "The answer is 18", "18", "#### 18", "#### 18.", "#### 18.00",
    "#### -5", "#### - 5", "#### --5", "#### $18", "#### $1,000.00", "$1,000.00", "$1,000,000", "#### 1,000", "#### 1,000.",
    "#### 1,234,567.89.", "#### ", "####18", "##### 7", "### 7", "#### seven", "#### x\n#### 9", "#### 5\n#### 6",
    "Ann has 3.\nMia has 4.\n#### 7", "Mia had 10-9=<<10-9=1>>1.\nMia has 1+2=<<1+2=3>>3.\n#### 3",
    "first 4, then 5, then 6", "It costs $4.50 or $5", "$5", "$", "$$", "..", ".", ",", ", . ,", "wait...", "18...", "18..",
    "5-3", "5 - 3", "-5", "- 5", "--5", "-$5", "-$1,200.50", "$-5", "-", "-.", "-.5", ".5", "0.5%", "50%", "1/2", "3 1/2",
    "1e5", "10^3", "x=3,y=4", "(7)", "[7]", "**42**", "\\boxed{42}", "answer: 42\n", "42\n\n", "#### 42\n", "#### 42 apples",
    "#### 42apples", "#### 4 2", "####  42", "#### 42\nQuestion: next 99\nAnswer: 1", "8</s>9", "8<|im_end|>9",
    "Question: 5", "a</s>b Question: c<|im_end|>", "7 <|im_end|> Question: 8 </s> 9", "Questions: 5", "question: 5",
    "\u0663 apples", "12\u00a0000", "\uff11\uff12", "caf\u00e9 3", "3\u20ac", "\u22125", "007", "0", "-0", "#### -0", "#### .",
    "#### ,", "#### 1.2.3", "1.2.3", "1,2,3", "12:30", "3 eggs.", "A1B2C3", "ABC", "#### 3\r\n", "3.\n", "#### 3.\n.", "\n", "#### \n5",
    "#### 18 #### 19", "18 #### ", "#### #### 4", "9" * 300, "-" * 50, "#" * 20 + " 5", "1 " * 100,
]
BY_HAND += [
    "The answer is 18\n", "The answer is 18.\nThe answer is 19.", "The answer is $18.", "The answer is -5.", "The answer is -5",
    "The answer is - 5.", "The answer is 5", "The answer is 5\n", "The answer is 1,080.", "The answer is 1,080", "the answer is 7.",
    "The answer is seven. The answer is 7!", "The answer is 3.50 dollars.", "The answer is .", "The answer is ..", "The answer is ,5",
    "So 3 + 4 = 7. The answer is 7. The answer is 8.", "The answer is The answer is 9.", "The answer is 4\u20ac.", "The answer is  6.",
    "The answer is 12%", "The answer is 1/2.", "The answer is: 7.", "The answer is 7.\n\nQ: The answer is 8.", "The answer is -.",
]
random.seed(1)
RANDOM = ["".join(random.choices("0123456789....,,,$$--##### \n aQ", k=random.randint(1, 24))) for _ in range(150)]
RANDOM += ["".join(random.choices(["#### ", "-", "1", "25", ".", ",", "$", " ", "x", "\n"], k=random.randint(1, 9))) for _ in range(150)]
RANDOM += ["".join(random.choices(["The answer is ", "-", "1", "25", ".", ",", "$", " ", "x", "\n"], k=random.randint(1, 9))) for _ in range(200)]

cases = []
for text in BY_HAND + RANDOM:
    strict, flexible = extract(STRICT, 0, text), extract(FLEXIBLE, -1, text)
    cases.append({"text": text, "cut": cut(text), "strict": strict, "chain": extract(CHAIN, 0, text), "flexible": flexible, "normalized": normalize(text)})
print(json.dumps({"by_hand": len(BY_HAND), "cases": cases}, indent=0))
