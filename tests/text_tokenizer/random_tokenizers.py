"""Random mixtures of tokenizer components, and texts that are unkind to them. Deterministic for a seed; used by
make_random_fixtures.py (what the tests replay) and compare_random.py (as many as one likes against a built modu)."""
import json
import random

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

assert tokenizers.__version__ == "0.21.0", tokenizers.__version__

CORPUS = [
    "모두를 위한 언어 모델, 모두의 서버. 오늘 날씨가 참 좋네요! 우리는 오늘도 서버를 돌린다. 2024년 10월",
    "대한민국의 수도는 서울이다. 훈민정음은 1443년에 창제되었다. 가격은 1,234,567원입니다. 사람들은 말한다",
    "The quick brown fox jumps over the lazy dog; it's what they've all said, isn't it? WE'LL SEE the end.",
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n    return sum;\n        if x == 100:\n\n\n",
    "naïve café résumé Ångström ÀÉÎÕÜ straße e\u0301 a\u0300",
    "東京と京都 中文測試 привет мир नमस्ते दुनिया สวัสดี مرحبا ١٢٣",
]

PIECES = [
    "a", "b", "the", " the", "The ", "quick", "sum", "  ", "   ", " ", " " * 7, " " * 40, "\t", "\n", "\r\n", "\n\n", "\n \n", "\u00a0", "\u3000",
    "\u2003", "\u200b", "\u0085", "\u180e", "\u2028", "0", "1", "12", "123", "1234567", "3.14", "٣٤", "²", "½", "Ⅷ", "二", "오늘", " 날씨가", "좋네요", "모두의 ", "서버",
    "ㄱㄴ", "한\u1100\u1161\u11a8", "\u1112\u1161\u11ab글", "e\u0301", "a\u0323\u0307", "\u0301", "\u0308\u0301", "é", "Å", "\u212b", "ﬁ", "㎏", "ﬃ", "ß", "İ", "ſ", "\u212a", "ΣΑΣ", "ǅ",
    "😁", "👨\u200d👩\u200d👧\u200d👦", "🇰🇷", "👍🏽", "❤\ufe0f", "1\ufe0f\u20e3", "\x00", "\x01", "\x7f", "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "𝕳", "𠮷", "नमस्ते", "ก็", "สวัสดี", "مرحبا", "שָׁ",
    "東京", "ひらがな", "カタカナ", "ｶﾞ", "привет", "!", "?!", "...", "--", "_", "a_b", "$", "+", "<", ">", "=", "~", "`", "^", "|", "\"", "'s", "'S", "'ll", "’s", "'re", "don't", "(", "[", "]", "/", "//", "\\", "#", "%",
    "「", "、", "。", "·", "•", "—", "€", "©", "™", "\u2581", "\u2581a", "\u0120", "Ġthe", "Ċ", "<s>", "</s>", "<unk>", "<l>", "<r>", "<w>", "<n>", "<Up>", "<up>", "<é>", "<e\u0301>", "w<w>w", " <lr> ",
    "<pad>", "<0x41>", "<0xE1>", "ABC", "camelCase", "XMLHttp", "x" * 50, "가" * 45, "ab" * 30, "\u0627\u064b", "\u1100", "\u11a8", "\u0344", "\u0958", "\ufb1d", "\U0001d15e",
]

REGEXES = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s++",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+(?!\S)|\s+",
    r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}{1,3}(?=(\p{N}{3})*(\P{N}|$))", r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))", r"\d{1,3}(?=(?:\d{3})*\b)", r"(?<=\d)(?=\D)",
    r"[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-Ⴥ]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", r"[一-龥ࠀ-一가-퟿]+", r"[0-9][0-9][0-9]", r"\p{Han}+|\p{Hiragana}+|\p{Katakana}+",
    r"[\p{Han}\p{Hangul}]+|[^\p{Han}\p{Hangul}\s]+", r"\p{P}|\p{S}", r"\p{^L}+", r"\P{L}", r"[^\P{L}a-c]+", r"[[:alpha:]]+", r"[[:punct:]]+", r"[[:space:]]", r"[^[:alnum:]]+", r"[[:upper:]][[:lower:]]*", r"\p{Alpha}+",
    r"\p{Alnum}+", r"\p{Punct}+", r"\p{Space}+", r"\p{Upper}\p{Lower}+", r"\p{Digit}+", r"\p{Word}+", r"\w+", r"\W", r"\d+", r"\D+", r"\h+", r"\H+", r"\b\w", r"\B.", r".", r"(?m:.+)", r".+", r"(?m)a.*b", r"(?i)the", r"(?i)s|ſ|k",
    r"(?i)[a-z]+", r"^\s*", r"\s*$", r"^", r"$", r"\A.", r".\z", r".\Z", r"\s+\Z", r"(?>\s+)\S", r"a{,2}", r"a{2,}", r"x{3}+", r"\s{1,16}", r"\x20+", r"\xe9|\x{AC00}|\x{1F601}", r"[\x{AC00}-\x{D7A3}]+", r"\uAC00|\u0041", r"[\u0300-\u036f]+", r"\t|\n",
    r"[a-z&&[^aeiou]]+", r"[\p{L}&&[^\p{Latin}]]+", r"[[a-c][x-z]]+", r"[^[a-c]d]+", r"[\s\S]", r"[\w&&\D]+", r"[\d\s]+", r"[^\d\s]+", r"[\D]", r"[\W_]", r"[^\w]", r"[^\S ]", r"[^\s\S]", r"\R", r"\X", r"(a|b)\1", r"(?<n>a)\k<n>",
    r"(?:)", r"|a", r"a|", r"(?=a)", r"(?!a)", r"(?<!\s)\s", r"(?<!a|bc)\S", r"\p{L}(?=\p{M})", r"\p{L}\p{M}*", r"[\p{L}\p{M}]+", r"\p{Lu}(?=\p{Ll})|(?<=\p{Ll})(?=\p{Lu})", r"\s?+\p{L}++", r"\p{Emoji}", r"\p{Cyrillic}+", r"\p{Arabic}+|\p{Devanagari}+|\p{Thai}+",
    r"\p{InHangulSyllables}", r"\p{ASCII}+", r"[^\p{ASCII}]+", r"\p{Any}", r"\p{Cn}", r"\p{Cf}|\p{Zs}|\p{Cc}", r"\p{L&}", r"\p{Letter}+", r"\p{Lowercase_Letter}+", r"\p{Number}", r"\p{sc=Han}", r"#[^\n]*", r"(?#comment)a", r"(?x) a b # c", r"[\]\-\^\[]", r"[-a]", r"[a-]", r"[a\-z]",
    r"\n|\r|\f|\v|\a|\e", r"\Qa.b\E", r"a*?b", r"a+?", r"\s??\S", r"(?:\p{L}+ )*", r"\p{L}+ ?", r"(\s|^)\S", r"[^ ]+ *", r" +(?= )", r"\K", r"a\Kb", r"\G.", r"(?~b)", r"\N+", r"\O", r"(?:a|ab)(?:c|bcd)", r"\cA", r"\C-a", r"\012", r"\0", r"\y\X\Y", r"(?i-m:THE)", r"(?<![^\n])x", r"}", r"]", r"{", r"a{", r"a{1", r"a{x}", r"\p{Greek}|\p{Hebrew}", r"\p{IsL}", r"\p{Ll}\p{Mn}*", r"[\p{Ll}--[a-c]]", r"\pL+", r"a(?i)b|c", r"(?i)b|C(?-i)K", r"a{2}?", r"a{1,2}?", r"\p{N}{1,3}+", r"[\W]", r"[^\W\d]+", r"[\p{^L}\s]", r"[\P{Graph}]", r"\p{Print}+", r"[[:^space:]]+", r"[^[:^alpha:]]", r"\bthe\b", r"\w+\b", r"[^\p{Han}\p{Alnum}]+", r"[\H\n]", r"\Y", r"\i", r"[\q]",
]

BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
METASPACE = "\u2581"


def trained(kind):
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    alphabet = []
    if kind == "bytes":
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "pieces":
        t.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.train_from_iterator(CORPUS * 2, trainers.BpeTrainer(
        vocab_size=430, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=sorted(alphabet)))
    return json.loads(t.to_str())["model"]


class Maker:
    def __init__(self):
        self.base = {kind: trained(kind) for kind in ("bytes", "pieces", "chars")}

    def model(self, r, kind):
        base = self.base[kind]
        vocab = dict(base["vocab"])
        merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in base["merges"]]
        merges = merges[:r.choice([len(merges), len(merges) // 2])]
        model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                 "fuse_unk": r.random() < 0.5, "byte_fallback": False, "ignore_merges": r.random() < 0.3}
        if kind != "bytes" or r.random() < 0.2:
            if r.random() < 0.7:
                model["unk_token"] = "<unk>"
        if kind != "bytes" and r.random() < 0.6:
            model["byte_fallback"] = True
            for b in range(256):
                if r.random() < 0.98 or len(vocab) % 3:
                    vocab[f"<0x{b:02X}>"] = len(vocab)
            if r.random() < 0.3:
                vocab["filler"] = vocab.pop("<0xE1>", len(vocab))
        if kind == "bytes" and r.random() < 0.2:  # a vocabulary that lacks some bytes
            for token in r.sample([t for t in vocab if len(t) == 1 and not t.isascii()], 10):
                if not any(token in m[0] or token in m[1] for m in merges):
                    vocab["gone" + token] = vocab.pop(token)
        model["vocab"] = vocab
        model["merges"] = [" ".join(m) for m in merges] if r.random() < 0.5 else [list(m) for m in merges]
        return model

    def pattern(self, r):
        return {"String": r.choice([" ", "a", "\n", "  ", "the", METASPACE, ".", "오늘"])} if r.random() < 0.2 else {"Regex": r.choice(REGEXES)}

    def normalizer(self, r, kind, depth=0):
        if depth == 0 and r.random() < 0.35:
            return None
        options = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Replace", "Prepend", "Nmt"]
        if kind == "pieces":
            options += ["Prepend", "Spaces"] * 2
        if depth < 2:
            options += ["Sequence"] * 3
        t = r.choice(options)
        if t == "Strip":
            return {"type": t, "strip_left": r.random() < 0.6, "strip_right": r.random() < 0.6}
        if t == "Replace":
            return {"type": t, "pattern": self.pattern(r), "content": r.choice(["", " ", "x", METASPACE, "가"])}
        if t == "Spaces":
            return {"type": "Replace", "pattern": {"String": " "}, "content": METASPACE}
        if t == "Prepend":
            return {"type": t, "prepend": r.choice([METASPACE, METASPACE, " ", "x", ""])}
        if t == "Sequence":
            return {"type": t, "normalizers": [self.normalizer(r, kind, depth + 1) for _ in range(r.randint(0, 3))]}
        return {"type": t}

    def metaspace(self, r, **more):
        node = {"type": "Metaspace", "replacement": r.choice([METASPACE] * 5 + ["_"]), "prepend_scheme": r.choice(["first", "always", "never"]), **more}
        if r.random() < 0.2:  # how files spelled it before prepend_scheme
            del node["prepend_scheme"]
            node["add_prefix_space"] = r.random() < 0.5
        return node

    def pre(self, r, kind, depth=0):
        t = r.choice(["Split"] * 6 + ["Digits", "Punctuation", "Whitespace", "WhitespaceSplit", "Metaspace", "CharDelimiterSplit", "BertPreTokenizer"] +
                     (["Sequence"] if depth < 2 else []))
        if t == "Split":
            return {"type": t, "pattern": self.pattern(r), "behavior": r.choice(BEHAVIORS + ["Isolated"] * 4), "invert": r.random() < 0.2}
        if t == "Digits":
            return {"type": t, "individual_digits": r.random() < 0.5}
        if t == "Punctuation":
            return {"type": t, "behavior": r.choice(BEHAVIORS)}
        if t == "Metaspace":
            return self.metaspace(r, split=r.random() < 0.6)
        if t == "CharDelimiterSplit":
            return {"type": t, "delimiter": r.choice([" ", "a", "\n", "늘"])}
        if t == "Sequence":
            return {"type": t, "pretokenizers": [self.pre(r, kind, depth + 1) for _ in range(r.randint(0, 3))]}
        return {"type": t}

    def byte_level(self, r):
        return {"type": "ByteLevel", "add_prefix_space": r.random() < 0.3, "trim_offsets": True, "use_regex": r.random() < 0.4}

    def pre_tokenizer(self, r, kind):
        if kind == "bytes":
            parts = [self.pre(r, kind) for _ in range(r.choice([0, 1, 1, 2, 3]))] + [self.byte_level(r)]
            if r.random() < 0.08:
                parts.append(self.pre(r, kind))
            return parts[0] if len(parts) == 1 and r.random() < 0.5 else {"type": "Sequence", "pretokenizers": parts}
        if r.random() < 0.3:
            return None
        if kind == "pieces" and r.random() < 0.6:
            return self.metaspace(r, split=r.random() < 0.6)
        return self.pre(r, kind)

    def decoder(self, r, kind):
        if kind == "bytes":
            return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        if r.random() < 0.1:
            return None
        choices = [
            {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": METASPACE}, "content": " "}, {"type": "ByteFallback"},
                                              {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": r.choice([0, 1])}]},
            {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, self.metaspace(r)]},
            {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "[\u2581_]"}, "content": " "}, {"type": "Fuse"}]},
            {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Strip", "content": METASPACE, "start": 2, "stop": 1}, {"type": "Fuse"}]},
            self.metaspace(r, split=True), {"type": "BPEDecoder", "suffix": "</w>"}, {"type": "Fuse"}, {"type": "ByteFallback"},
        ]
        return r.choice(choices)

    def post(self, r):
        template = {"type": "TemplateProcessing", "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                                                                     "</s>": {"id": "</s>", "ids": [2, 1], "tokens": ["</s>", "<s>"]}},
                    "single": [], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]}
        if r.random() < 0.7:
            template["single"].append({"SpecialToken": {"id": "<s>", "type_id": 0}})
        template["single"].append({"Sequence": {"id": "A", "type_id": 0}})
        if r.random() < 0.5:
            template["single"].append({"SpecialToken": {"id": "</s>", "type_id": 0}})
        byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
        bert = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]}
        roberta = {**bert, "type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": False}
        return r.choice([None, template, template, byte_level, {"type": "Sequence", "processors": [byte_level, template]}, bert, roberta])

    def added(self, r, vocab):
        tokens = [("<unk>", True), ("<s>", True), ("</s>", True)]
        if r.random() < 0.8:
            names = ["<l>", "<r>", "<w>", "<n>", "<Up>", "<é>", "<lr>", "<pad>", "   ", "the", "\n\n", "a_b", "오늘", "<0x41>", "ﬁ", "<l><r>", "ab", "abab"]
            tokens += [(n, r.random() < 0.4) for n in r.sample(names, r.randint(1, 9))]
        out, next_id = [], max(vocab.values()) + 1
        for content, special in tokens:
            if content not in vocab:
                vocab_id, next_id = next_id, next_id + 1
            else:
                vocab_id = vocab[content]
            plain = content in ("<unk>", "<s>", "</s>")
            special = special and (plain or content not in vocab)  # modu never gives a special token for text; the reference does
            out.append({"id": vocab_id, "content": content, "single_word": not plain and r.random() < 0.25, "lstrip": not plain and r.random() < 0.3,
                        "rstrip": not plain and r.random() < 0.3, "normalized": not plain and r.random() < 0.5, "special": special})
        return sorted(out, key=lambda t: t["id"])

    def tokenizer(self, seed):
        r = random.Random(seed)
        kind = r.choice(["bytes", "bytes", "bytes", "pieces", "pieces", "chars"])
        model = self.model(r, kind)
        data = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": self.added(r, model["vocab"]), "normalizer": self.normalizer(r, kind),
                "pre_tokenizer": self.pre_tokenizer(r, kind), "post_processor": self.post(r), "decoder": self.decoder(r, kind), "model": model}
        return data

    def one_expression(self, index):
        model = {**self.base["bytes"], "unk_token": None, "merges": []}
        pre = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": REGEXES[index]}, "behavior": "Isolated", "invert": False},
                                                     {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}]}
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": pre, "post_processor": None,
                "decoder": None, "model": model}


def text(r):
    return "".join(r.choice(PIECES) for _ in range(r.choice([0, 1, 2, 3, 5, 8, 12])))


def texts(seed, count):
    r = random.Random(f"texts {seed}")
    return [text(r) for _ in range(count)]


def load(data):
    """The reference's tokenizer, or None where it refuses the file."""
    try:
        return Tokenizer.from_str(json.dumps(data))
    except Exception:  # the library raises bare Exception
        return None


def encode(tokenizer, value):
    """None where the reference panics (overlapping added tokens, prefixes put into emptied text)."""
    try:
        return tokenizer.encode(value, add_special_tokens=False).ids
    except BaseException as e:  # pyo3's PanicException is no Exception
        if isinstance(e, KeyboardInterrupt):
            raise
        return None


def whole_specials(tokenizer, values):
    """With ignore_merges the reference gives a control token for a piece that is spelled like one, even where it is told to
    encode special tokens as text; modu never does."""
    tokenizer.encode_special_tokens = True
    found = any({1, 2} & set(encode(tokenizer, value)) or "<unk>" in value for value in values)
    tokenizer.encode_special_tokens = False
    return found


def decode(tokenizer, ids, skip_special_tokens=False):
    """None where the reference panics (its Strip decoder, on a token that is all stripped from both ends)."""
    try:
        return tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
    except BaseException as e:  # pyo3's PanicException is no Exception
        if isinstance(e, KeyboardInterrupt):
            raise
        return None
