#!/usr/bin/env python3
"""Random tokenizers and texts through Hugging Face's tokenizers and through a built modu: ids, ids with special tokens and
decoded text must be equal.   compare_random.py MODU [FIRST_SEED COUNT [TEXTS]]
FIRST_SEED -1 takes the regular expressions one by one.
Prints what modu refuses (once a reason) and what differs. Needs: pip install tokenizers==0.21.0."""
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import random_tokenizers


def modu(binary, command, path, value, *flags):
    done = subprocess.run([binary, command, path, *flags], input=json.dumps(value), capture_output=True, text=True, check=False)
    return (json.loads(done.stdout), "") if done.returncode == 0 else (None, done.stderr.strip() or f"exit {done.returncode}")


def summary(data):
    return json.dumps({**data, "model": {k: v for k, v in data["model"].items() if k not in ("vocab", "merges")}}, ensure_ascii=True)


def main():
    binary = sys.argv[1]
    first, count, num_texts = [int(x) for x in sys.argv[2:] + ["0", "200", "200"][len(sys.argv) - 2:]]
    maker = random_tokenizers.Maker()
    make = maker.tokenizer
    if first < 0:  # every expression by itself
        first, count, make = 0, len(random_tokenizers.REGEXES), maker.one_expression
    refused, bad, compared = collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "tokenizer.json")
        for seed in range(first, first + count):
            data = make(seed)
            reference = random_tokenizers.load(data)
            if reference is None:
                continue
            pathlib.Path(path).write_text(json.dumps(data), encoding="utf-8")
            texts = random_tokenizers.texts(seed, num_texts)
            plain, error = modu(binary, "tokenize", path, texts, "--parse-special")
            if plain is None:
                refused[f"{error}  (seed {seed})"] += 1
                continue
            special, _ = modu(binary, "tokenize", path, texts, "--parse-special", "--add-special")
            try:
                expected = [reference.encode(t, add_special_tokens=False).ids for t in texts]
                expected_special = [reference.encode(t).ids for t in texts]
            except BaseException as e:  # pylint: disable=broad-except  (the library panics on some files)
                print(f"seed {seed}: the reference fails: {str(e)[:100]}")
                continue
            decoded, error = modu(binary, "detokenize", path, expected)
            wrong = []
            for i, t in enumerate(texts):
                compared += 1
                if plain[i] != expected[i]:
                    wrong.append(f"  ids of {t!a}:\n    {plain[i]}\n    {expected[i]}")
                elif special[i] != expected_special[i]:
                    wrong.append(f"  special ids of {t!a}:\n    {special[i]}\n    {expected_special[i]}")
                else:
                    want = random_tokenizers.decode(reference, expected[i])
                    if want is not None and (decoded is None or decoded[i] != want):
                        wrong.append(f"  decoded {expected[i]}:\n    {(decoded or [error] * (i + 1))[i]!a}\n    {want!a}")
            if wrong:
                bad += 1
                print(f"seed {seed}: {len(wrong)} of {len(texts)} differ: {summary(data)}")
                print("\n".join(sorted(wrong, key=len)[:2]))
    for reason, times in refused.most_common():
        print(f"refused {times}x: {reason}")
    print(f"{compared} texts compared, {bad} tokenizers differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
