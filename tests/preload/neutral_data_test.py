"""Programs that work on data are the same under tidemark: interpreters, compressors, databases, text and image tools.

One row a program; neutral_workload.py says what is compared. Must not: hold programs that start many processes
(neutral_process_test.py), compilers (neutral_build_test.py) or servers (neutral_server_test.py).
"""
import unittest

from neutral_workload import OUR_VARIABLES, Workload, test_class

SQL = b"""create table t(a integer primary key, b text, c real);
with recursive n(x) as (select 1 union all select x+1 from n where x<4000)
  insert into t select x, hex(x*7919), x/3.0 from n;
create index i on t(b); select count(*), sum(length(b)), total(c) from t where b like '%A%'; delete from t where a%3=0;
vacuum; pragma integrity_check; select a, b from t order by b desc limit 5; select * from nothing;
"""
PYTHON = """
import json, os, pickle, re, subprocess, sys, tempfile, threading, zlib
results = []
threads = [threading.Thread(target=lambda k=k: results.append(sum(len(str(i)) for i in range(20000 + k))))
           for k in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(results), subprocess.run(['sh', '-c', 'echo out; exit 4'], capture_output=True))
data = [{'key': i, 'text': 'x' * (i % 100), 'list': list(range(i % 20))} for i in range(3000)]
text = json.dumps(data)
assert json.loads(text) == data and pickle.loads(pickle.dumps(data)) == data
print(zlib.crc32(zlib.compress(text.encode(), 9)), len(re.findall(r'"key": \\d+5', text)))
child = os.fork()
if child == 0:
    data.clear()
    os._exit(len(data) + 6)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with tempfile.NamedTemporaryFile('w', dir='.', delete=False) as file:
    os.rename(file.name, 'kept')
    file.write(text)
print('done', file=sys.stderr)
sys.exit(3)
"""
PERL = """my %h; for my $i (1..4000) { $h{$i} = 'x' x ($i % 97); }
my @s = sort { $h{$a} cmp $h{$b} || $a <=> $b } keys %h;
print scalar(@s), ' ', length(join('', map { $h{$_} } @s)), "\\n";
my $t = join(',', @s); (my $u = $t) =~ s/(\\d)(\\d)/$2$1/g; print unpack('%32C*', $u), "\\n";
open(my $f, '>', 'out') or die; print $f $u; close $f;
print `echo from a child`; my $pid = fork; exit 7 if !$pid; waitpid $pid, 0; print $? >> 8, "\\n"; die "the end\\n";
"""
GAWK = """BEGIN { for (i = 0; i < 5000; i++) a[i % 700] = a[i % 700] i; n = asort(a); print n, length(a[1]);
while (("echo one; echo two" | getline line) > 0) print line; close("echo one; echo two");
for (i = 0; i < 500; i++) { s = s sprintf("%c", 65 + i % 26); gsub(/ABC/, "cba", s) } print length(s), substr(s, 1, 30)
print "to a file" > "out"; print "sorted" | "sort"; exit 4 }"""
TCL = """set d [dict create]
for {set i 0} {$i < 4000} {incr i} { dict lappend d [expr {$i % 37}] [string repeat x [expr {$i % 50}]] }
puts [string length [dict values $d]]
puts [lrange [lsort -dictionary [split [string repeat "b10 b9 a " 300] " "]] 0 9]
proc fact n { expr {$n < 2 ? 1 : $n * [fact [expr {$n - 1}]]} }
puts [fact 60]; puts [exec echo from a child]; set f [open out w]; puts $f $d; close $f
puts stderr done; exit 2
"""
NODE = """
const a = []; for (let i = 0; i < 20000; i++) a.push({i, s: 'x'.repeat(i % 50), b: Buffer.alloc(i % 300)});
console.log(a.filter(x => x.i % 7 == 0).map(x => x.s.length).reduce((x, y) => x + y, 0));
console.log(require('crypto').createHash('sha256').update(JSON.stringify(a.slice(0, 100))).digest('hex'));
require('fs').writeFileSync('out', require('zlib').gzipSync(JSON.stringify(a.slice(0, 300))));
require('child_process').exec('echo child', (e, out) => { console.log(out.trim()); process.exit(5); });
"""
PHP = """<?php $a = []; for ($i = 0; $i < 5000; $i++) { $a["k$i"] = str_repeat(chr(65 + $i % 26), $i % 60); }
ksort($a); echo count($a), ' ', md5(serialize($a)), "\\n"; echo strlen(json_encode(array_slice($a, 10, 500))), "\\n";
preg_match_all('/(A+|B+)/', implode(',', $a), $m); echo count($m[0]), "\\n";
file_put_contents('out', implode("\\n", $a));
echo shell_exec('echo from a child'); fwrite(STDERR, "done\\n"); exit(6);
"""
RUBY = """h = Hash.new { |hash, k| hash[k] = [] }
6000.times { |i| h[i % 53] << 'x' * (i % 70) }
puts h.values.flatten.map(&:size).sum, h.keys.sort.inspect.size
threads = 4.times.map { |t| Thread.new { (1..3000).map { |i| (i * t).to_s }.join.size } }
puts threads.map(&:value).inspect
GC.start; puts `echo from a child`; pid = fork { exit! 3 }; Process.wait pid; puts $?.exitstatus
File.write('out', h.inspect); warn 'done'; exit 9
"""
VIM = ["-c", "%s/line \\(\\d\\+\\)/\\1: entry/", "-c", "sort! n", "-c", "g/7/m0", "-c", "normal ggyyp", "-c", "w out",
       "-c", "undo", "-c", "redir! > said", "-c", "echo line('$')", "-c", "redir END", "-c", "qa!"]
OPENSSL = """set -e
for digest in md5 sha1 sha256 sha512 sha3-256 blake2b512; do openssl dgst -$digest data; done
openssl enc -aes-256-cbc -K 00112233445566778899aabbccddeeff -iv 00 -in data -out cipher 2>said
openssl enc -d -aes-256-cbc -K 00112233445566778899aabbccddeeff -iv 00 -in cipher 2>>said | cmp - data
openssl genrsa -out key.pem 1024 2>/dev/null; openssl rsa -in key.pem -check -noout
openssl req -x509 -new -key key.pem -subj /CN=neutral -days 2 -out cert.pem; openssl verify -CAfile cert.pem cert.pem
openssl dgst -sha256 -sign key.pem -out signature data
openssl x509 -in cert.pem -noout -pubkey > public.pem
openssl dgst -sha256 -verify public.pem -signature signature data
openssl base64 -in data | tail -n 1; openssl asn1parse -in cert.pem | grep -c SEQUENCE; openssl dgst -nothing data
"""
LINES = "".join(f"line {i * 7919 % 10007} {'abcdefghij'[i % 10] * (i % 40)}\n" for i in range(12000))
RANDOM_KEYS = (r"\.pem$|^signature$", "a new key has random numbers")
MANY_THREADS = (r"^exit .*: status Threads", "threads that the program does not wait for may have ended or not")

WORKLOADS = {
    "sqlite3": Workload(["sqlite3", "data.db"], {"sqlite3": "sqlite3"}, stdin=SQL, status=1, says=b"ok", bare=True),
    **{f"python3_with_{allocator}": Workload(
        ["/usr/bin/python3", "-c", PYTHON], {"/usr/bin/python3": "python3"}, status=3, says=b"returncode=4",
        environment={"PYTHONMALLOC": allocator, "PYTHONHASHSEED": "0"}, least_traces=2,
        bare=allocator == "malloc") for allocator in ("pymalloc", "malloc")},
    "perl": Workload(["perl", "-e", PERL], {"perl": "perl"}, status=7, says=b"from a child", least_traces=2,
                     environment={"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}, bare=True),
    "gawk": Workload(["gawk", GAWK], {"gawk": "gawk"}, status=4, says=b"two", least_traces=2, bare=True),
    "sort": Workload(["sort", "--parallel=2", "-S", "200k", "-T", ".", "-k2n", "-k3r", "-o", "sorted", "data"],
                     files={"data": LINES * 3}),
    "xz": Workload(["sh", "-c", "xz -T2 -3 --block-size=65536 -k data && xz -t data.xz && xz -dc data.xz | cmp - data"],
                   {"xz": "xz-utils"}, {"data": LINES}, least_traces=3),
    "zstd": Workload(["sh", "-c", "zstd -q -T2 -9 -B512K data && zstd -tq data.zst && zstd -dc data.zst | cmp - data"
                      "; zstd -q -t data"], {"zstd": "zstd"}, {"data": LINES}, status=1, least_traces=3),
    "jq": Workload(["jq", "-n", "[range(3000) | {k: (. * 7 % 1000 | tostring), v: [., . + 1]}] | group_by(.k) "
                    "| (length, .[3]), error(\"the end\")"], {"jq": "jq"}, status=5, says=b"1000", bare=True),
    "tclsh": Workload(["tclsh"], {"tclsh": "tcl"}, stdin=TCL.encode(), status=2, says=b"from a child",
                      facts_unlike=((r"/tcl_\w{6} ", "the child's stderr is a file with a random name"),)),
    "bc": Workload(["bc", "-q"], {"bc": "bc"}, stdin=b"x = 1; for (i = 1; i < 300; i++) { x = x * i % (10^60 + 7); }; "
                   b"x; scale = 300; sqrt(2); 4 * a(1)\n1 / 0\n", says=b"1.41421356", bare=True),
    "xmllint": Workload(["xmllint", "--format", "--xpath", "//item[@id mod 7 = 0]/name/text() | //nothing", "-"],
                        {"xmllint": "libxml2-utils"}, says=b"n49",
                        stdin=("<r>" + "".join(f"<item id='{i}'><name>n{i}</name></item>" for i in range(1500)) +
                               "</r>").encode()),
    "xmllint_error": Workload(["xmllint", "-"], {"xmllint": "libxml2-utils"}, stdin=b"<a><b></a>", status=1),
    "openssl": Workload(["sh", "-c", OPENSSL], {"openssl": "openssl"}, {"data": LINES}, status=1, says=b"Verified OK",
                        least_traces=15, files_unlike=(RANDOM_KEYS,),
                        normalise=((rb"(?m)^[0-9A-F]{16}:error:", b"error:", "a thread's address"),)),
    "vim": Workload(["vim", "-es", "-u", "NONE", "-i", "NONE", *VIM, "data"], {"vim": "vim"},
                    {"data": "".join(f"line {i * 31 % 997}\n" for i in range(500))}),
    "node": Workload(["node", "-e", NODE], {"node": "nodejs"}, status=5, says=b"child", facts_unlike=(MANY_THREADS,)),
    "php": Workload(["php", "-n", "main.php"], {"php": "php-cli"}, {"main.php": PHP}, status=6, says=b"from a child"),
    "ruby": Workload(["ruby", "main.rb"], {"ruby": "ruby"}, {"main.rb": RUBY}, status=9, says=b"from a child",
                     facts_unlike=(MANY_THREADS,)),
    "imagemagick": Workload(
        ["sh", "-c", "c=convert-im6.q16; $c -size 120x80 plasma:fractal -seed 1 start.ppm && $c -size 90x60 "
         "gradient:red-blue -rotate 30 -resize 150% -blur 0x2 \\( rose: -flip \\) -composite out.ppm && "
         "$c out.ppm -quality 70 out.jpg && identify-im6.q16 -format '%m %w %h %#\\n' out.ppm out.jpg"],
        {"convert-im6.q16": "imagemagick"}, says=b"JPEG", least_traces=4,
        files_unlike=((r"^start\.ppm$", "plasma is random"),), facts_unlike=(MANY_THREADS,)),
    "env": Workload(["env", "-u", "HOME", "SOMETHING=new"], says=b"SOMETHING=new", bare=True,
                    normalise=((OUR_VARIABLES, b"", "what record and the observer set for their command"),)),
    "tar": Workload(["sh", "-c", "tar --sort=name --mtime=@0 -czf a.tgz in && mkdir out && tar -C out -xzf a.tgz && "
                     "tar -tvf a.tgz | wc -l && diff -r in out/in && tar -xf nothing"], status=2, says=b"127",
                    files={f"in/{i % 6}/file{i}": f"{i} " * (i * 3) for i in range(120)}, least_traces=4),
    "find": Workload(["find", "in", "-type", "f", "-size", "-2", "-name", "*1*", "-exec", "wc", "-c", "{}", "+", "-o",
                      "-name", "*7", "-exec", "rm", "{}", ";"], least_traces=6,
                     files={f"in/{i % 6}/file{i}": f"{i} " * (i * 3) for i in range(60)},
                     normalise=((rb"(?s).*", lambda match: b"".join(sorted(match[0].splitlines(True))),
                                 "the order of a folder is the file system's"),)),
    "text_tools": Workload(["sh", "-c", "grep -c 'line 1.*e' data; sed -E 's/([0-9]+) (a*)/\\2\\1/;1~3d' data | "
                            "cut -c1-20 | uniq -c | tail -n 3; join data data | wc -c; paste data data | "
                            "tr a-j A-J | fold -w 30 | md5sum; comm -12 data data 2>&1 | wc -l; grep x nothing"],
                           files={"data": LINES[:60000]}, status=2, least_traces=12),
    "busybox_static": Workload(["busybox", "sh", "-c", "seq 300 | awk '{ s += $1 } END { print s }'; exit 3"],
                               {"busybox": "busybox-static"}, status=3, says=b"45150", says_unprofiled=b"static"),
}

Data = test_class("Data", WORKLOADS, "Interpreters, compressors, databases, text and image tools.")

if __name__ == "__main__":
    unittest.main()
