"""Makes what the real programs read: scripts, documents and a translation unit, the same bytes in every run.

Own inputs, because a benchmark that fetches its inputs cannot be repeated in ten years. `scale` is how much work there
is, with 1.0 about half a second of glibc's time
(the compiler: more). Must not: use anything random but a seeded generator.
"""
import hashlib
import json
import random
import subprocess
from pathlib import Path

WORDS = ("amber basin cedar delta ember fjord grove haven inlet jetty knoll lagoon marsh north ocean "
         "pebble quartz ridge shoal tide upland valley wharf yarrow").split()

SQL = """
CREATE TABLE tide(id INTEGER PRIMARY KEY, station INT, level REAL, note TEXT);
INSERT INTO tide
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
  SELECT i, i * 7919 % 97, (i * 104729 % 10007) / 100.0, 'reading ' || (i * 31 % 1009) || ' of ' || i FROM n;
CREATE INDEX by_station ON tide(station, level);
CREATE INDEX by_note ON tide(note);
SELECT station, count(*), round(avg(level), 3), max(note) FROM tide GROUP BY station ORDER BY 3 LIMIT 5;
SELECT count(DISTINCT substr(note, 1, 12)), group_concat(DISTINCT station % 7) FROM tide;
SELECT a.station, count(*) FROM tide a JOIN tide b ON b.station = a.station AND b.level = a.level AND b.id < a.id
  WHERE a.id < {joined} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3;
UPDATE tide SET note = upper(note) || printf('%08.3f', level) WHERE id % 3 = 0;
DELETE FROM tide WHERE station IN (SELECT station FROM tide GROUP BY station HAVING avg(level) > 50.2);
SELECT count(*), sum(length(note)), total(level) FROM tide;
"""

# Many short statements: preparing them is where a database allocates.
SQL_STATEMENT = "SELECT id, upper(note), level * {factor} FROM tide WHERE id = {row} AND station BETWEEN 0 AND 96;\n"

PYTHON = '''"""Parses, transforms and prints: what a typical script of some length does with small objects."""
import ast
import hashlib
import json
import re

function = "def f{{0}}(a, b=[{{0}}, 'x'], *rest, **more):\\n    return {{{{'k{{0}}': a + b[{{0}} % 2], **more}}}}"
source = "\\n".join(function.format(i) for i in range(120))
total = 0
for turn in range({turns}):
    tree = ast.parse(source)
    total += sum(isinstance(node, ast.Name) for node in ast.walk(tree))
    data = {{f"key {{i}}": [{{"id": j, "name": str(i * j), "at": i / (j + 1)}} for j in range(12)] for i in range(60)}}
    back = json.loads(json.dumps(data, sort_keys=True))
    words = re.findall(r"[a-z]+|[0-9]+", " ".join(sorted(back)) * 6)
    counts = {{}}
    for word in words:
        counts.setdefault(word + str(turn % 5), []).append(len(word))
    total += sum(map(sum, counts.values()))
print(total)
'''

CPP = """#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>
"""

CPP_UNIT = """
namespace unit_{n} {{
struct Key {{ int a; std::string b; auto operator<=>(const Key&) const = default; }};
using Value = std::variant<int, double, std::string, std::vector<std::map<int, Key>>>;
std::map<Key, std::vector<Value>> table;
std::unordered_map<std::string, std::function<Value(const Value&)>> functions;
bool Matches(const std::string& text) {{ return std::regex_search(text, std::regex("a{n}(b|c)*d+")); }}
std::string Print() {{
  std::ostringstream out;
  std::vector<Key> keys;
  for (const auto& [key, values] : table) keys.push_back(key);
  std::stable_sort(keys.begin(), keys.end(), [](const Key& x, const Key& y) {{ return x.b.size() + {n} < y.a; }});
  for (const auto& key : keys) std::visit([&](const auto& v) {{ out << sizeof(v); }}, table[key].front());
  return out.str();
}}
}}
"""

PERL = r"""use strict; use warnings;
my (%%count, @lines, $sum);
for my $turn (1 .. %d) {
  @lines = map { my $n = $_ * 7919 %% 1009; "station $n: " . join(",", map { $_ * $n %% 97 } 1 .. 12) } 1 .. 400;
  for my $line (@lines) {
    next unless $line =~ /^station (\d+): (.*)$/;
    my ($station, @values) = ($1, split /,/, $2);
    push @{$count{$station %% 50}{list}}, { id => $station, values => [sort { $a <=> $b } @values] };
    (my $copy = $line) =~ s/(\d+)/<$1>/g;
    $sum += length $copy;
  }
  %%count = () if $turn %% 20 == 0;
}
print "$sum\n";
"""


def words(source: random.Random, count: int) -> str:
    return " ".join(source.choice(WORDS) for _ in range(count))


def sql(path: Path, scale: float) -> None:
    rows = int(100_000 * scale)
    count = int(20_000 * scale)
    statements = "".join(SQL_STATEMENT.format(factor=i % 7 + 1, row=i * 7919 % rows) for i in range(count))
    path.write_text(SQL.format(rows=rows, joined=rows // 4) + ".output /dev/null\n" + statements, encoding="utf-8")


def python(path: Path, scale: float) -> None:
    path.write_text(PYTHON.format(turns=max(1, int(70 * scale))), encoding="utf-8")


def translation_unit(path: Path, scale: float) -> None:
    """Preprocessed, so that the compiler proper runs alone, on what it would see."""
    source = path.with_suffix(".cc")
    headers = CPP if scale >= 0.25 else "#include <string>\n#include <vector>\n"
    units = [CPP_UNIT.format(n=n) for n in range(int(scale / 2))]
    source.write_text(headers + "".join(units), encoding="utf-8")
    subprocess.run(["g++", "-std=c++20", "-E", "-P", str(source), "-o", str(path)], check=True, capture_output=True)


def perl(path: Path, scale: float) -> None:
    path.write_text(PERL % max(1, int(100 * scale)), encoding="utf-8")


def json_document(path: Path, scale: float) -> None:
    source = random.Random(11)
    rows = [{"id": i, "station": source.choice(WORDS), "levels": [source.randrange(10_000) / 100 for _ in range(8)],
             "note": words(source, 6), "tags": {"a": i % 7, "b": words(source, 1)}} for i in range(int(15_000 * scale))]
    path.write_text(json.dumps(rows), encoding="utf-8")


def xml_document(path: Path, scale: float) -> None:
    source = random.Random(12)
    with path.open("w", encoding="utf-8") as out:
        out.write('<?xml version="1.0"?>\n<tides>\n')
        for i in range(int(100_000 * scale)):
            out.write(f' <reading id="r{i}" station="{source.choice(WORDS)}"><level unit="m">{source.randrange(10_000)}'
                      f"</level><note>{words(source, 5)} &amp; <b>{i % 13}</b></note></reading>\n")
        out.write("</tides>\n")


class Inputs:
    """A folder of inputs; each is made when first asked for."""

    MAKERS = {"sql": sql, "py": python, "ii": translation_unit, "pl": perl, "json": json_document, "xml": xml_document}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, suffix: str, scale: float) -> Path:
        made_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]  # what an older version made is not ours
        path = self.folder / f"input-{scale:g}-{made_by}.{suffix}"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name("unfinished-" + path.name)
            self.MAKERS[suffix](unfinished, scale)
            unfinished.rename(path)
        return path
