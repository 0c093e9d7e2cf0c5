"""Writes common/metrics/ptb_tables.h from unicode.tsv and abbreviations.tsv: python3 tests/golden/metrics/make_tables.py"""
import os

here = os.path.dirname(os.path.abspath(__file__))
CLASS = {"word": "WORD", "mark": "MARK", "symbol": "SYMBOL", "symbol-run": "RUN", "inner": "INNER", "inner-digits": "INNER_DIGITS"}


def rows(name):
    with open(os.path.join(here, name), encoding="utf-8") as f:
        return [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]


def columns(items, per_line):
    return "".join("    " + " ".join(items[i:i + per_line]) + "\n" for i in range(0, len(items), per_line))


ranges, special = [], []
for first, last, name in rows("unicode.tsv"):
    if name.startswith("special: "):
        special += ['{0x%X, 0x%X, "%s"},' % (int(first, 16), int(last, 16), name[9:])]
    elif name != "deleted":
        ranges.append((int(first, 16), int(last, 16), CLASS[name]))
joined = []
for r in ranges:
    if joined and joined[-1][1] + 1 == r[0] and joined[-1][2] == r[2]:
        joined[-1] = (joined[-1][0], r[1], r[2])
    else:
        joined.append(r)
CODE = {"title": "T", "word": "W", "number": "N", "-": "-"}
words = ['{"%s", "%s"},' % (w, "".join(CODE[k] for k in kinds)) for w, *kinds in rows("abbreviations.tsv")]
with open(os.path.join(here, "../../../common/metrics/ptb_tables.h"), "w", encoding="utf-8") as f:
    f.write("/* Made by tests/golden/metrics/make_tables.py from the tables beside it; not to be edited. */\n"
            "#ifndef PG_METRICS_PTB_TABLES_H\n#define PG_METRICS_PTB_TABLES_H\n\n#include <stdint.h>\n\n"
            "enum { PTB_DELETED, PTB_WORD, PTB_MARK, PTB_SYMBOL, PTB_RUN, PTB_INNER, PTB_INNER_DIGITS, PTB_SPECIAL };\n\n"
            "/* First and last code point, class; what is in no range is deleted. Sorted. */\n"
            "static const struct ptb_range {\n    uint16_t first, last;\n    uint8_t class;\n} ptb_ranges[] = {\n")
    f.write(columns(["{0x%X, 0x%X, PTB_%s}," % r for r in joined], 4))
    f.write("};\n\n/* Code points that become something else. Sorted. */\n"
            "static const struct ptb_special {\n    uint16_t first, last;\n    const char *text;\n} ptb_specials[] = {\n")
    f.write(columns(special, 4))
    f.write("};\n\n/* Words that keep their stop, by lower, Capitalised, UPPER: T always, W as well but it may end a sentence, N before a number\n"
            " * alone, - not. Sorted. */\n"
            "static const struct ptb_abbreviation {\n    const char *word, *kinds;\n} ptb_abbreviations[] = {\n")
    f.write(columns(words, 8))
    f.write("};\n\n#endif\n")
