"""Programs that live by starting processes are the same under tidemark: shells, git, what runs commands for others.

One row a program; neutral_workload.py says what is compared. Must not: hold servers (neutral_server_test.py).
"""
import unittest

from neutral_workload import Workload, test_class

GIT = """set -e
git init -q -b main repo; cd repo
for i in 1 2 3 4 5 6 7 8; do
  for f in a b c; do echo "$i $f" >> $f; seq $((i * 20)) > $f$i; done
  git add .; git commit -qm "commit $i"
done
git checkout -qb side HEAD~3; echo side > side; git add side; git commit -qm side; git checkout -q main
git merge -q -m merged side; echo more >> a1; git stash -q; git stash pop -q; git commit -qam stashed
git tag -a -m tag v1; git gc -q; git fsck --full --strict; git log --graph --format=%H%s | cat
git blame -s a | tail -n 2; git diff HEAD~4 --stat | cat; git archive HEAD | md5sum; git status --short
git clone -q . ../clone; git -C ../clone rev-list --all --count; git bundle create -q ../bundle --all
git -C ../clone repack -adq; git grep -c 7 -- 'a*' | cat
git rev-parse nothing
"""
DATES = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
         for what, value in (("DATE", "2026-01-01T00:00:00Z"), ("NAME", "n"), ("EMAIL", "e@e"))}
BASH = r"""for i in $(seq 120); do x=$( (echo $((i * i)) | cat) ); s=$((s + x)); done; echo $s
trap 'echo usr1' USR1; kill -USR1 $$; trap 'echo leaving' EXIT; trap '' HUP
(trap 'echo term; exit 5' TERM; kill -TERM $BASHPID; sleep 60); echo $?
bash -c 'kill -KILL $$' 2>/dev/null; echo $?
diff <(seq 10) <(seq 2 11); coproc cat; echo through a coprocess >&${COPROC[1]}; read -r line <&${COPROC[0]}; echo $line
exec {COPROC[1]}>&-; wait $COPROC_PID; echo $?
declare -A map; for w in a b c a; do map[$w]+=x; done; echo ${map[a]} ${#map[@]}; mapfile -t lines < <(seq 50)
echo ${lines[@]:3:4} | tr ' ' +
printf '%s\n' {1..40} | while read -r n; do (exit $((n % 3))) || echo -n $n,; done; echo
for i in 1 2 3 4 5 6; do (exit $i) & done; wait; exec 9>out; echo nine >&9; exec 9>&-; cat out; ulimit -n; umask
set -o pipefail; false | true; echo $?; nothing_of_this_name; exit 3
"""
# A child that its parent has not waited for may or may not be there when somebody else ends.
RUNNING_CHILDREN = (r"^(exit|_exit) .*: children", "a pipeline's other processes may have ended or not")

WORKLOADS = {
    "git": Workload(["sh", "-c", GIT], {"git": "git"}, environment={
        **DATES, "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "pack.threads", "GIT_CONFIG_VALUE_0": "1",
        "GIT_CONFIG_KEY_1": "gc.auto", "GIT_CONFIG_VALUE_1": "0"}, status=128, says=b"merged", least_traces=100,
        files_unlike=((r"/index$", "it holds times and inode numbers of the files"),),
        facts_unlike=((r"^main git: environment", "git stash sets GIT_INDEX_FILE to a name with its process id"),)),
    "bash": Workload(["bash", "-c", BASH], status=3, says=b"583220", least_traces=300,
                     facts_unlike=(RUNNING_CHILDREN,),
                     normalise=((rb"line (\d+): +\d+ Killed", rb"line \1: Killed", "a process id"),)),
    "dash": Workload(["sh"], stdin=b"""i=0; while [ $i -lt 60 ]; do i=$((i + 1)); (echo $i; sh -c 'exit 4') | cat; done
sh -c 'kill -ABRT $$'; echo $?; trap 'echo end' EXIT; exec sh -c 'echo last; exit 6'
""", status=6, says=b"last", least_traces=100, facts_unlike=(RUNNING_CHILDREN,)),
    "xargs": Workload(["sh", "-c", "seq 90 | xargs -P 3 -n 3 sh -c 'echo $0 $1 $2 > out.$0'; cat out.* | sort -n | "
                       "md5sum; echo 1 | xargs -I @ sh -c 'exit @'"], status=123, least_traces=33),
    "timeout": Workload(["sh", "-c", "timeout 100 sh -c 'exit 5'; echo $?; timeout -s USR1 0.3 sleep 100; echo $?; "
                         "timeout -s KILL --foreground 0.3 sleep 100"], status=137, says=b"5\n124\n", least_traces=4),
    "nice_nohup_setsid": Workload(["nohup", "nice", "-n", "3", "setsid", "-w", "stdbuf", "-oL", "sh", "-c",
                                   "nice; ulimit -c 0; ulimit -c; exec tee out"], stdin=b"text\n", says=b"3\n0\ntext"),
    "loader": Workload(["sh", "-c", "/lib64/ld-linux-x86-64.so.2 --list $(command -v sort); "
                        "/lib64/ld-linux-x86-64.so.2 /bin/echo through the loader; LD_TRACE_LOADED_OBJECTS=1 sort"],
                       says=b"through the loader",
                       normalise=((rb"\(0x[0-9a-f]+\)", b"", "addresses are random"),
                                  (rb"(?m)^\t\S*(libtidemark|neutral_observer)\S*.*\n", b"",
                                   "the list has what LD_PRELOAD names"))),
    "loader_itself": Workload(["/lib64/ld-linux-x86-64.so.2", "/bin/echo", "run by hand"], says=b"run by hand"),
}

Process = test_class("Process", WORKLOADS, "Shells, git, and programs that run others.")

if __name__ == "__main__":
    unittest.main()
