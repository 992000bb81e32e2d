#!/usr/bin/env bash
# Commits to a git repository in the current directory, packs and prunes it, until it is killed.
#
#     committer.sh make       makes it, with some history
#     committer.sh work       commits without end
set -euo pipefail
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=writer GIT_AUTHOR_EMAIL=w@example.org GIT_COMMITTER_NAME=writer GIT_COMMITTER_EMAIL=w@example.org

commit() {
    local n
    for n in 1 2 3; do
        echo "$1 $RANDOM" >"file-$((RANDOM % 90))"
    done
    git add -A
    git commit -q --allow-empty -m "commit $1"
}

if [ "${1:-}" = make ]; then
    git init -q -b main .
    # Nothing is packed behind our back: what is done stands below.
    git config gc.auto 0
    git config maintenance.auto false
    for number in $(seq 40); do commit "$number"; done
    git branch side-0
    git tag kept
    git pack-refs --all
    exit
fi

number=100
while :; do
    number=$((number + 1))
    commit "$number"
    case $((number % 12)) in
    2) git branch -f "side-$((RANDOM % 5))" ;;
    4) git pack-refs --all ;;
    6) git repack -adq ;;
    8) git gc -q --prune=now ;;
    # What is tagged stays for good; what is taken back here is pruned one day.
    10) git tag -f kept HEAD >/dev/null ;;
    11) git reset -q --soft HEAD~1 && commit "$number again" ;;
    esac
done
