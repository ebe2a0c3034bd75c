#!/bin/sh
# One upgrade of one program of this host. The files beside this one say which, and how:
#
#   job                       names and numbers, as assignments of the shell
#   paths, after.tar          the files and links that may change, and those that change, as they are to be
#   look                      prints what counts: what the old version did, the new one has to do as well
#   attempt                   what has to be done before a look
#   active                    whether the units run
#   stop, start, restart      the program's units; `start` also waits until the new version is ready
#   stamp, journal            notes for which files the units were started, and what the units wrote into the journal
#
# Each step is noted before it begins. So whenever this is cut off, it can be taken back:
#
#   upgrade run        the whole way, to one of two ends: the new version, or the old one with its data
#   upgrade boot       after a loss of power, before the services start: put back what was changed
#   upgrade recover    the same while the host runs
set -u
umask 077
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin no_proxy='*' NO_PROXY='*'
cd "${0%/*}" || exit 1
. ./job

# note PHASE [WHY]: how far it has come. It is on the disk before the next step begins.
note() {
    size=$(stat -c %s state.tar 2>/dev/null || echo 0)
    why=$(printf %s "${2:-}" | tr -c '[:print:]' ' ' | cut -c 1-300)
    {
        printf '%s %s %s %s %s %s\n%s\n' "$PROGRAM" "$OLD" "$NEW" "$1" "$(date +%s)" "$size" "$why" >note.part &&
            sync note.part && mv -f note.part note && sync .
    } || return 1
    echo "--- $(date -u '+%F %T') $1 $why" >>log
}

phase() { read -r _ _ _ now _ <note && echo "$now"; }

# The data belong to an account. Only with its rights they are read and written: it could put links there. Of root's own
# data, ACCOUNT is empty.
as_account() {
    (cd / && ${ACCOUNT:+setpriv --reuid="$ACCOUNT" --regid="$ACCOUNT" --init-groups --reset-env} "$@")
}

packed() {
    as_account tar --create --sort=name ${LEFT_OUT:+--exclude="$LEFT_OUT"} --directory="$DATA" --file=- .
}

# put FILE: the data as FILE has them, and nothing else.
put() {
    as_account sh -c 'cd -P -- "$0" && find . -xdev -mindepth 1 -delete && tar --extract -p --file=-' "$DATA" <"$1" &&
        [ "$(packed | sha256sum)" = "$(sha256sum <"$1")" ]
}

# What is there now of the files and links that may change.
keep() {
    : >there
    : >missing
    while read -r path; do
        if [ -e "$path" ] || [ -L "$path" ]; then echo "${path#/}" >>there; else echo "$path" >>missing; fi
    done <paths
    tar --create --no-recursion --directory=/ --files-from=there --file=before.tar && sync before.tar missing
}

# unpack FILE MISSING: files and links as FILE has them, without those that MISSING lists.
unpack() {
    tar --extract -p --no-overwrite-dir --directory=/ --file="$1" || return 1
    while read -r path; do rm -f -- "$path" || return 1; done <"$2"
}

# does FILE: whether the program does what FILE says. A program that has just been started is asked several times. An
# empty FILE: it did nothing, so it only has to run.
does() {
    if [ ! -s "$1" ]; then
        sleep "$PAUSE"
        sh ./active >>log 2>&1 </dev/null
        return
    fi
    left=$TRIES
    while :; do
        sh ./attempt >>log 2>&1 </dev/null
        sh ./look >seen 2>>log </dev/null && cmp -s seen "$1" && return 0
        left=$((left - 1))
        [ "$left" -gt 0 ] || break
        sleep "$PAUSE"
    done
    { echo "it does:"; cat seen; echo "it did:"; cat "$1"; } >>log
    return 1
}

# The way is over: nothing has to be done at the next boot. After a good end, what was put into place is not needed here.
finish() {
    rm -f "$UNITS/multi-user.target.wants/$AT_BOOT" "$UNITS/$AT_BOOT" seen
    if [ "$(phase)" = 'done' ]; then rm -f after.tar put.tar; fi
    sync .
}

# The old files and data.
returned() {
    unpack before.tar missing >>log 2>&1 || return 1
    [ ! -e state.tar ] || put state.tar >>log 2>&1 || return 1
    if [ -e state.tar ]; then echo "the data are as before: $(sha256sum <state.tar)" >>log; fi
}

# again WHY: start what was there before, and see that it does what it did.
again() {
    sh ./restart >>log 2>&1 </dev/null
    end=stuck
    if does before; then end=back; fi
    sh ./journal >log.old 2>&1
    if [ "$end" = back ]; then sh ./stamp >>log 2>&1; fi
    note "$end" "$1"
    finish
    [ "$end" = back ]
}

# back WHY: the way back.
back() {
    sh ./journal >log.new 2>&1
    note return "$1"
    sh ./stop >>log 2>&1 </dev/null
    if returned; then again "$1"; return; fi
    note stuck "$1; and what was there before could not be put back, see $PWD/log"
    finish
    return 1
}

# Any failure ends in the way back.
forward() {
    note look
    left=$LOOKS
    until sh ./look >before 2>>log </dev/null; do
        : >before
        left=$((left - 1))
        [ "$left" -gt 0 ] || break
        sleep 1
    done
    [ -e expected ] || cp before expected
    keep >>log 2>&1 || { again "the files of before could not be kept"; return 1; }
    note stop
    sh ./stop >>log 2>&1 </dev/null || { again "the old version could not be stopped"; return 1; }
    note copy
    if [ -n "$DATA" ]; then
        { packed >state.part 2>>log && sync state.part && mv -f state.part state.tar; } ||
            { rm -f state.part; again "the data could not be copied"; return 1; }
    fi
    # Without this note nobody would put anything back after a loss of power.
    note switch || { again "the disk takes no note of it"; return 1; }
    unpack after.tar gone >>log 2>&1 || { back "the new files could not be put into place"; return 1; }
    if [ -e put.tar ]; then put put.tar >>log 2>&1 || { back "the data could not be put into place"; return 1; }; fi
    note start
    if ! sh ./start >start.log 2>&1 </dev/null; then
        cat start.log >>log
        back "it did not start: $(grep -m 1 -E 'was not ready|is not started again' start.log || head -n 1 start.log)"
        return 1
    fi
    cat start.log >>log
    note check
    does expected || { back "it starts, and does not do what the version before it did"; return 1; }
    only=
    if [ ! -s expected ]; then only='the old version did nothing that counts, so this one only had to start'; fi
    note 'done' "$only"
    finish
}

[ -e log ] || : >log
case $1:$(phase) in
    *:done | *:back | *:stuck) finish ;;
    run:ready) forward ;;
    run:*) exit 1 ;;
    boot:switch | boot:start | boot:check | boot:return)
        if returned; then note back "the host was switched off, or restarted, in the middle"
        else note stuck "the host was switched off in the middle, and what was there before could not be put back"; fi
        finish ;;
    boot:*) note back "the host was switched off, or restarted, before anything was changed"; finish ;;
    recover:switch | recover:start | recover:check | recover:return) back "it was ended in the middle" ;;
    recover:*) again "it was ended before anything was changed" ;;
esac
