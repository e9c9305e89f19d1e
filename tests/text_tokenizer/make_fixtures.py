#!/usr/bin/env python3
"""Makes fixtures/*.json: small tokenizers of our own, one a mixture of components (random-*: chosen by chance), with the
ids that Hugging Face's tokenizers gives; and expressions.json: what Oniguruma finds for many expressions. Needs: pip install tokenizers==0.21.0. Deterministic; run it in this folder and commit the output."""
import json
import pathlib

import random_tokenizers
import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

assert tokenizers.__version__ == "0.21.0", tokenizers.__version__

CORPUS = [
    "모두를 위한 언어 모델, 모두의 서버. 오늘 날씨가 참 좋네요! 우리는 오늘도 서버를 돌린다.",
    "대한민국의 수도는 서울이다. 훈민정음은 1443년에 창제되었다. 가격은 1,234,567원입니다.",
    "The quick brown fox jumps over the lazy dog; it's what they've all said, isn't it? WE'LL SEE.",
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n    return sum;\n",
    "naive cafe resume: naïve café résumé Ångström ÀÉÎÕÜ straße",
    "東京と京都 中文測試 привет мир नमस्ते दुनिया สวัสดี",
]
TEXTS = [
    "", " ", "  ", "   a", "a   ", "\n", "\r\n\r\n  x\n", "\t\t \n a", "Hello, world", " Hello  world", "it's IT'S 'sx we'LL 'ſ",
    "오늘 날씨가 참 좋네요", "서버를  모두 돌린다.\n", "한글 NFD 한글", "ㄱㄴㄷ ㅏㅑ", "e\u0301 é a\u0323\u0307 a\u0307\u0323 \u1e0b\u0323", "Å Å Å ﬁ ½ ① ㎏ Ⅷ",
    "1443년 12345 1,234.5 ٣٤٥ 二〇", "١٢ ²³ ½", "\u180e a\u180eb \u200b \u2028x \u3000 \x85 \x1c", "a\u00a0b\u2003c", "😁 👨‍👩‍👧‍👦 🇰🇷", "\x00\x01\x7f",
    "<s> x </s>", "<s>x</s>", "a<s>  <pad>  b", "<pad>", " <pad>", "word <mask> word", "word<mask>word", "LEFT  <l>  RIGHT", "LEFT  <r>  RIGHT",
    "x<w>y <w> z<w>", "Café <UP> cafe <up>", "<|sys|><|sys|>", "\u2581a \u2581", "don't \u201cquote\u201d -- a_b $5 a+b `c` ~", "camelCaseWordABCdef ABC Abc aBC",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "안녕\u115f하세\u1161요", "İstanbul ΣΑΣ ǅ ß", "नमस्ते ก็ สวัสดี", "a/b//c\n/ d\r/",
    "....!!!???\n\n\n...", "한국 어 모델 이 다 1 2", "\ufeff\ufffd", "x" * 30 + " " * 30 + "y", "가" * 50, "𝕳𝖊𝖑𝖑𝖔 𠮷野家", "ᄀ\u1161\u11a8 가\u11a8 \u1100\u1161",
]

GPT2_LIKE = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
K_EXAONE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|"
            r" ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+")
UPPER, LOWER, SHORT = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SHORT}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SHORT}|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}&&[^\p{{Han}}]]+|\p{{N}}{{1,3}}|\s+|[^\s\p{{L}}\p{{N}}]+"


def train(tokenizer, size=420, alphabet=None, special=()):
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=list(special),
                                  initial_alphabet=alphabet or [])
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def byte_level(pre, normalizer=None, added=(), size=420, **model):
    t = Tokenizer(models.BPE(**model))
    t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    train(t, size, pre_tokenizers.ByteLevel.alphabet(), ["<s>", "</s>"])
    t.add_tokens(list(added))
    return t


def split(regex, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), behavior, invert),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def sentencepiece(pre=None, normalizer=None, decoder=None, fuse=True, fallback=True, added=()):
    bytes_ = [f"<0x{b:02X}>" for b in range(256)] if fallback else []
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse, byte_fallback=fallback))
    t.normalizer = normalizer
    t.pre_tokenizer = pre or pre_tokenizers.Metaspace()
    train(t, 420, special=["<unk>", "<s>", "</s>"])
    # Bytes into the vocabulary behind what was trained; without a pre-tokenizer merges reach over words.
    data = json.loads(t.to_str())
    for token in bytes_:
        data["model"]["vocab"].setdefault(token, len(data["model"]["vocab"]))
    # Some letters go, so that there is something unknown.
    t = Tokenizer.from_str(json.dumps(data))
    t.normalizer = normalizer
    if pre is None:
        t.pre_tokenizer = None
    t.decoder = decoder
    t.add_tokens(list(added))
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return t


FLAGS = [AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True), AddedToken("<w>", single_word=True),
         AddedToken("<up>", normalized=True), AddedToken("<mask>", special=True, lstrip=True, normalized=False),
         AddedToken("<pad>", special=True, normalized=False), AddedToken("   ", normalized=False),
         AddedToken("<|sys|>", special=True, normalized=False)]
LLAMA_DECODER = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
LLAMA_NORMALIZER = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])


def suffix_model():
    t = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " ")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    t.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False, special_tokens=["<unk>", "<s>"], end_of_word_suffix="</w>")
    t.train_from_iterator(CORPUS * 3, trainer)
    t.post_processor = processors.RobertaProcessing(("<s>", 1), ("<s>", 1), trim_offsets=False, add_prefix_space=False)
    return t


def prefix_model():
    t = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", fuse_unk=False))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_next"),
                                               pre_tokenizers.Digits(False)])
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False, special_tokens=["<unk>"], continuing_subword_prefix="##")
    t.train_from_iterator(CORPUS * 3, trainer)
    return t


def byte_level_normalizer():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.ByteLevel()])
    t.pre_tokenizer = pre_tokenizers.Split("\u0120", "merged_with_next")  # spaces have become their letter
    t.decoder = decoders.ByteLevel()
    return train(t, 400, pre_tokenizers.ByteLevel.alphabet())


def make():
    sequence = pre_tokenizers.Sequence
    yield "gpt2", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield "gpt2-prefix-space-flags", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), None, FLAGS)
    yield "digits-nfkc-flags", byte_level(sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                                          normalizers.NFKC(), FLAGS)
    yield "digit-runs-nfd", byte_level(sequence([pre_tokenizers.Digits(False), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                                       normalizers.NFD())
    yield "llama3-ignore-merges", byte_level(split(LLAMA3), None, FLAGS, ignore_merges=True)
    yield "qwen2-nfc", byte_level(split(QWEN2), normalizers.NFC(), FLAGS)
    yield "k-exaone-nfc", byte_level(split(K_EXAONE), normalizers.NFC(), size=500)
    yield "o200k", byte_level(split(O200K))
    yield "kimi-intersection", byte_level(split(KIMI, "removed", True))
    yield "deepseek-chain", byte_level(sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"), pre_tokenizers.Split(Regex("[一-龥\u3040-ゟ゠-ヿ]+"), "isolated"),
        pre_tokenizers.Split(Regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
                                   r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            name = "split-" + behavior.replace("_", "-") + ("-invert" if invert else "")
            yield name, byte_level(split(r"[\s,.]", behavior, invert), size=330)
    yield "perl-classes", byte_level(split(r"\w+|\s|[^\w\s]"), size=330)
    yield "not-classes", byte_level(split(r"\W\w*|\S|[\S\n]|^\d+$"), size=330)
    yield "empty-matches", byte_level(split(r"\d*"), size=330)
    yield "byte-level-normalizer", byte_level_normalizer()
    yield "llama-legacy", sentencepiece(None, LLAMA_NORMALIZER, LLAMA_DECODER, added=FLAGS)
    yield "llama-legacy-no-fallback", sentencepiece(None, LLAMA_NORMALIZER, LLAMA_DECODER, fallback=False)
    yield "llama-unfused", sentencepiece(None, LLAMA_NORMALIZER, LLAMA_DECODER, fuse=False, fallback=False)
    for scheme in ("always", "first", "never"):
        for splits in (True, False):
            meta = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=splits)
            yield f"metaspace-{scheme}-{'split' if splits else 'whole'}", sentencepiece(
                meta, normalizers.Nmt() if scheme == "never" else None, decoders.Metaspace(prepend_scheme=scheme), added=FLAGS)
    yield "strip-char-delimiter", sentencepiece(pre_tokenizers.CharDelimiterSplit(" "), normalizers.Strip(), decoders.Fuse())
    yield "bert-pieces", sentencepiece(pre_tokenizers.BertPreTokenizer(), normalizers.Strip(True, False))
    yield "end-of-word", suffix_model()
    yield "continuing-prefix", prefix_model()


def random_ones():
    """The first of each kind of pre-tokenizer chain, 24 in all, each with texts of its own."""
    maker, seen, seed = random_tokenizers.Maker(), set(), 0
    while len(seen) < 24:
        data = maker.tokenizer(seed)
        parts = json.dumps([data["normalizer"], data["pre_tokenizer"], data["decoder"]])
        kinds = tuple(sorted(k for k in ("NFC", "NFK", "Nmt", "Strip", "Prepend", "Replace", "Digits", "Punctuation", "Metaspace", "Regex", "invert\": true",
                                         "ByteFallback", "BPEDecoder") if k in parts))
        t = random_tokenizers.load(data)
        texts = random_tokenizers.texts(seed, 25)
        seed += 1
        if t is None or len(kinds) < 4 or kinds in seen or any(random_tokenizers.encode(t, text) is None for text in texts):
            continue
        if data["model"]["ignore_merges"] and random_tokenizers.whole_specials(t, texts):
            continue
        if any(random_tokenizers.decode(t, random_tokenizers.encode(t, text)) is None for text in texts):
            continue
        seen.add(kinds)
        yield f"random-{seed - 1}", t, texts


def expressions():
    """Sizes in bytes, alternating: what is no match, what is one. Empty matches do not count."""
    texts = random_tokenizers.texts("expressions", 14)
    out = {"texts": texts, "expressions": []}
    for expression in random_tokenizers.REGEXES:
        try:
            pre = pre_tokenizers.Split(Regex(expression), "removed", invert=True)
        except Exception:  # the library raises bare Exception
            continue
        sizes = []
        for text in texts:
            sizes.append([])
            done = 0
            for _, (begin, end) in pre.pre_tokenize_str(text):
                sizes[-1] += [len(text[done:begin].encode()), len(text[begin:end].encode())]
                done = end
        out["expressions"].append([expression, sizes])
    return out


def main():
    out = pathlib.Path(__file__).parent / "fixtures"
    out.mkdir(exist_ok=True)
    with open(out.parent / "expressions.json", "w", encoding="ascii") as f:
        json.dump(expressions(), f, separators=(",", ":"))
        f.write("\n")
    for name, t, texts in [*((name, t, TEXTS) for name, t in make()), *random_ones()]:
        # What is tested is what a reader of the file makes of it.
        t = Tokenizer.from_str(t.to_str())
        plain = Tokenizer.from_str(t.to_str())
        plain.encode_special_tokens = True
        cases = []
        for text in texts:
            ids = t.encode(text, add_special_tokens=False).ids
            case = {"text": text, "ids": ids, "decoded": t.decode(ids, skip_special_tokens=False)}
            for key, value in (("special", t.encode(text).ids), ("plain", plain.encode(text, add_special_tokens=False).ids)):
                if value != ids:
                    case[key] = value
            skipped = t.decode(ids)
            if skipped != case["decoded"]:
                case["skipped"] = skipped
            cases.append(case)
        with open(out / f"{name}.json", "w", encoding="ascii") as f:
            json.dump({"tokenizer": json.loads(t.to_str()), "cases": cases}, f, separators=(",", ":"))
            f.write("\n")


if __name__ == "__main__":
    main()
