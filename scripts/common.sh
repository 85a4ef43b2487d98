# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# Shared by the bash scripts of this folder: source it, then use
#   die MESSAGE         one line on stderr, exit 3 ("could not run")
#   note MESSAGE        one line on stderr, for what a person wants to know
#   need_value OPT N    die unless the option OPT has a value ($# is N)
#   series_field DIR F  value of the "# F value" header of DIR/series, all lines
#   record_field FILE K value of the line "K=value" of a record file
#   is_checkout TREE    whether TREE is a git checkout; die if it is one that git refuses
#   assert_clean TREE [ADVICE]
#                       die if the git checkout has uncommitted changes
#   uninterrupted COMMAND...
#                       run COMMAND to its end, whatever signal asks for an end
#   lock FILE WHAT      wait until nobody else holds FILE; held until the script ends
#   assert_no_work TREE die if the scratch tree holds what no patch file has
# Messages start with the name of the script that speaks.

me=${0##*/}

# Scripts read what programs say. LANGUAGE is for kbuild, which unsets LC_ALL.
export LC_ALL=C LANGUAGE=C

# An interrupted script ends by its EXIT trap, not in the middle of its next step.
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

die()
{
	printf '%s: %s\n' "$me" "$*" >&2
	exit 3
}

note()
{
	printf '%s: %s\n' "$me" "$*" >&2
}

need_value()
{
	[ "$2" -ge 2 ] || die "$1 needs a value"
}

series_field()
{
	sed -n "s/^# $2 \+//p" "$1/series"
}

record_field()
{
	sed -n "s/^$2=//p" "$1"
}

# Files that no kernel is made from: a regular expression for the path in the tree
# shellcheck disable=SC2034
not_compiled='^(Documentation|MAINTAINERS|tools/testing/selftests)(/|$)'

# Commits of the scratch tree: nobody's, and the same bits for the same content.
export GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
# shellcheck disable=SC2034
series_ident=(-c user.name=series -c user.email=series@localhost -c commit.gpgSign=false)

is_checkout()
{
	local said
	[ -e "$1/.git" ] || return 1
	said=$(GIT_CEILING_DIRECTORIES=${1%/*} git -C "$1" rev-parse --git-dir 2>&1) ||
		die "git refuses $1: $(xargs -d '\n' <<< "$said")"
}

assert_clean()
{
	local changed
	changed=$(git -C "$1" status --porcelain --untracked-files=no) ||
		die "git cannot tell what has changed in $1"
	[ -z "$changed" ] || die "$1 has uncommitted changes; ${2:-commit or stash them first}"
}

uninterrupted()
{
	(trap '' INT TERM HUP; "$@")
}

lock()
{
	local fd
	exec {fd}> "$1"
	flock -n "$fd" || { note "waiting for another run that uses $2"; flock "$fd"; }
}

assert_no_work()
{
	[ -d "$1/.git" ] || die "$1 is in the way and no scratch tree of ours"
	assert_clean "$1" "commit them and run 'make refresh', or delete the tree"
	if [ "$(git -C "$1" rev-parse HEAD)" != "$(git -C "$1" rev-parse -q --verify refs/rseq/tip)" ] &&
	   [ "$(git -C "$1" rev-parse HEAD)" != "$(git -C "$1" rev-parse refs/rseq/base)" ]; then
		die "$1 has commits that are not in the patch files; run 'make refresh', or delete the tree"
	fi
}
