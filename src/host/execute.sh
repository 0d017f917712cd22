# Carries out typed steps. Steps come on $I, one a line, fields parted by "|"; texts on $T1, $T2 and so on, and the bytes
# of files on stdin, a line "aesop-whole" after each, both in the order of the steps that want them. Says "done|<n>" after each
# step, or "failed|<n>|<base64>" and stops. Every program that it starts takes a host some milliseconds, which is most of the
# time of a small change: what the shell can do by itself, it does.
set -uf
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
exec 3<&0 </dev/null
umask 022
n=0 texts=0 written= meant= former= late= first= second= old=
state=/var/lib/aesop/state
lock=$state/lock
artifacts=/opt/aesop/artifacts
fail() {
  (keep) >/dev/null 2>&1
  for path in $written; do rm -rf "${path%/*}/.aesop-new"; done
  printf 'failed|%s|%s\n' "$n" "$(printf '%s' "$*" | tail -c 6000 | base64 -w0)"
  exit 1
}
run() { out=$("$@" 2>&1) || fail "$1: $(printf '%s' "$out" | tail -n 5)"; }
text() { # the next of the texts
  texts=$((texts + 1))
  eval "text=\$T$texts"
}
stamp() { # $now in seconds and $utc, asked for anew where a second has gone by
  read -r up _ </proc/uptime
  [ "${up%%.*}" = "$second" ] || {
    second=${up%%.*}
    now=$(date -u '+%s %Y-%m-%dT%H:%M:%SZ')
    utc=${now#* } now=${now%% *}
  }
}
body() { # size: the next of the bytes on stdin. A connection that breaks looks like their end: only the mark says that they are whole
  head -c "$1" <&3 && IFS= read -r mark <&3 && [ "$mark" = aesop-whole ]
}
folder() { # path: makes it where it is not there
  [ -d "$1" ] || run mkdir -p "$1"
}
aside() { # folder name: $text goes there, on disk with the next `keep`: one fsync for several files, and one program
  folder "$1/.new"
  printf '%s' "$text" >"$1/.new/$2" || fail "cannot write $1/.new/$2
$(df -Pk "$1" 2>/dev/null | tail -n +2)"
  case " $late " in *" $1/.new/$2 "*) ;; *) late="$late $1/.new/$2" ;; esac
}
place() { # files: what is aside goes where it belongs, the state itself last: it says that the rest is there
  for folder in $state/units $state/generations $state; do
    moved=
    for path; do
      [ "${path%/*}" != "$folder/.new" ] || moved="$moved $path"
    done
    [ -z "$moved" ] || run mv -f -t "$folder/" $moved
  done
}
keep() { # files to sync as well; before what takes long, and at the end: a unit's record that is lost costs a second restart
  [ -n "$late$*" ] || return 0
  kept=$late late= first=
  run sync "$@" $kept
  place $kept
}
in_place() { # path: puts PATH.aesop-new there, whole or not at all
  run sync "$1.aesop-new"
  run mv -f "$1.aesop-new" "$1"
}
put_in_place() { # size: whole or not at all, and what was there stays for `putback`
  folders= new= aside=
  for path in $written; do
    case " $folders " in *" ${path%/*} "*) ;; *) folders="$folders ${path%/*}" aside="$aside ${path%/*}/.aesop-new" ;; esac
    new="$new ${path%/*}/.aesop-new/${path##*/}"
  done
  for folder in $aside; do
    [ ! -e "$folder" ] || run rm -rf "$folder"
  done
  out=$(body "$1" | tar -xpmf - -C / 2>&1) || fail "cannot write files: $(printf '%s\n' "$out" | head -n 3)
$(df -Pk $folders 2>/dev/null | tail -n +2 | sort -u)"
  if [ "$(stat -c %a:%U:%G $new 2>&1)
" != "$meant" ]; then
    # An owner that is not there: chown says so.
    for path in $new; do
      IFS=: read -r _ owner <<END
$meant
END
      run chown "$owner" "$path"
      meant=${meant#*
}
    done
    fail "modes or owners are not as they should be: $(stat -c '%n %a:%U:%G' $new 2>&1)"
  fi
  keep $new
  [ -n "$former" ] || [ ! -d $state/former ] || rm -rf $state/former
  former=
  for path in $written; do [ -f "$path" ] && former="$former $path"; done
  if [ -n "$former" ]; then
    # From /: some versions of cp look for the parents of absolute paths in the current folder.
    out=$(umask 077 && mkdir -p $state/former && cd / && cp -p --parents $former $state/former 2>&1) || fail "keep former files: $out"
  fi
  former=yes
  for folder in $folders; do
    moved=
    for path in $written; do
      [ "${path%/*}" != "$folder" ] || moved="$moved $folder/.aesop-new/${path##*/}"
    done
    run mv -f -t "$folder/" $moved
  done
  rmdir $aside
  written= meant=
}
is_systemd() { # program
  [ "$1" -ef /lib/systemd/systemd ] || [ "$1" -ef /lib/systemd/systemd-executor ]
}
settle() { # processes of units: active says no more than that a process was made; its program runs, and has had a moment to fail
  tries=0
  for pid; do
    while is_systemd "/proc/$pid/exe" && [ "$tries" -lt 100 ]; do
      sleep 0.05
      tries=$((tries + 1))
    done
  done
  sleep 0.2
}
ask_units() { # units: $pids of all that are active, with no job to do; false where one is not
  pids= settled=0
  while IFS='=' read -r key value; do
    case $key=$value in
      MainPID=*) pids="$pids $value" ;;
      ActiveState=active) settled=$((settled + 1)) ;;
      Job=?*) settled=-1000 ;;
    esac
  done <<END
$(systemctl show -p MainPID,ActiveState,Job "$@")
END
  [ "$settled" = $# ]
}
start_within() { # seconds verb units: false where systemd is not done with them by then
  out=$(timeout "$1" systemctl "$2" $3 2>&1)
  case $? in
    0) ;;
    124) return 1 ;;
    *) # a unit that fell into its start limit must be allowed to try the new configuration
      case $(systemctl show -p Result --value $3) in
        *start-limit-hit*)
          systemctl reset-failed $3
          out=$(timeout "$1" systemctl start $3 2>&1)
          [ $? != 124 ] ;;
      esac ;;
  esac
}
up() { # units: those of $pids run still; of others systemd must be asked
  [ "${pids#* 0}" = "$pids" ] || return 1
  for pid in $pids; do
    [ -e "/proc/$pid/exe" ] && ! is_systemd "/proc/$pid/exe" || return 1
  done
}
await_units() { # seconds units: systemd is done with them, and all are active
  limit=$1
  shift
  if ! ask_units "$@"; then
    start_within "$limit" start "$*" || fail "not active within $limit s: $(systemctl is-active "$@" | tr '\n' ' ')"
    ask_units "$@" || pids=' 0'
  fi
  settle $pids
  ! up || return 0
  found=$(systemctl is-active "$@")
  for unit; do
    is=${found%%
*}
    found=${found#*
}
    [ "$is" = active ] || fail "$unit does not stay up: it is $is
$(last_log "$unit")"
  done
}
record() { # unit restart reload ready: what it was started with
  text="$2|$3|$4
"
  aside $state/units "$1"
}
restarts() { systemctl show -p NRestarts --value "$1"; }
last_log() { journalctl -u "$1" -n 20 --no-pager -o cat 2>/dev/null; }
lock_holder() { # files: who holds one of them, by what the kernel says
  inodes=$(stat -c %i "$@" 2>/dev/null)
  while read -r _ _ _ _ pid place _; do
    for inode in $inodes; do
      [ "${place##*:}" = "$inode" ] || continue
      printf '%s (pid %s)' "$(cat "/proc/$pid/comm" 2>/dev/null || echo somebody)" "$pid"
      return
    done
  done </proc/locks
}
forget_generations() { # keep new: the newest so many stay; the others are $old
  kept=$2
  set +f
  for path in $state/generations/*; do
    case ${path##*/} in *[!0-9]* | "$2") ;; *) kept="$kept ${path##*/}" ;; esac
  done
  set -f
  for one in $kept; do
    newer=0
    for other in $kept; do
      [ "$other" -le "$one" ] || newer=$((newer + 1))
    done
    [ "$newer" -lt "$1" ] || old="$old $state/generations/$one $state/generations/$one.artifacts"
  done
}
touch_lock() { # id: says that its holder lives, where it is held
  owner=
  IFS= read -r owner 2>/dev/null <$lock/owner
  [ "${owner%%|*}" = "$1" ] && printf '%s\n' "$owner" 1<>$lock/owner # in its place: there is always a name in it
}
take_lock() { # id owner stale_after generation operation
  ! touch_lock "$1" || return
  folder $state/units
  stamp
  if ! mkdir $lock 2>/dev/null; then
    IFS='|' read -r held holder since <$lock/owner 2>/dev/null
    if [ "$held" != "$1" ]; then
      touched=$(stat -c %Y $lock/owner 2>/dev/null || stat -c %Y $lock)
      left=$((touched + $3 - now))
      [ "$left" -le 0 ] || fail "another apply holds the lock: ${holder:-somebody}, since $(date -u -d "@${since:-$touched}" +%H:%M:%S) UTC; if it has died, the lock is free in $left s"
    fi
  fi
  have=0
  [ ! -r $state/generation ] || read -r have <$state/generation
  if [ "$have" -gt "$4" ]; then
    rmdir $lock 2>/dev/null
    fail "generation $have is on this host, the plan rests on $4: plan again"
  fi
  printf '%s\n' "$5" >$lock/operation
  printf '%s|%s|%s\n' "$1" "$2" "$now" >$lock/owner
}
keep_ids() { # generation: $text, where it is not what is there; the first line says which generation brought it
  have=
  [ ! -r $state/cluster.lock ] || {
    read -r line
    while IFS= read -r line; do
      have="$have$line
"
    done
  } <$state/cluster.lock
  [ "$have" = "$text" ] || {
    text="# generation $1
$text"
    aside $state cluster.lock
    keep
  }
}
while IFS='|' read -r op a b c d e f; do
  case $op in # before its first change a host notes what will be there
    manifest | file | commit | audit | touch | lock | started | ready | generation) ;;
    *) [ -z "$first" ] || keep ;;
  esac
  case $op in
    lock) take_lock "$a" "$b" "$c" "$d" "$e" ;;
    touch) touch_lock "$a" ;;
    unlock)
      keep
      held= gone=$old old=
      IFS='|' read -r held _ <$lock/owner 2>/dev/null
      [ "$held" != "$a" ] || gone="$gone $lock"
      [ -z "$gone" ] || rm -rf $gone ;;
    audit) # text: each line ends with a hash of it and of the hash of the one before
      folder /var/log/aesop
      stamp
      line="$utc $a"
      {
        flock 9
        last=$(tail -n 1 /var/log/aesop/audit.log)
        case $last in *' #'*) last=${last##* #} ;; *) last= ;; esac
        sum=$(printf '%s\n%s\n' "$last" "$line" | sha256sum)
        printf '%s #%s\n' "$line" "${sum%% *}" >&9
      } 9>>/var/log/aesop/audit.log ;;
    manifest)
      text
      umask 077
      aside $state manifest
      umask 022
      first=yes ;;
    ids) # generation: the controller's lock file, for recover-lock
      text
      keep_ids "$a" ;;
    generation) # number keep artifacts: the snapshot holds secrets
      text
      umask 077
      folder $state/generations
      aside $state/generations "$a"
      umask 022
      text="$c
"
      aside $state/generations "$a.artifacts"
      text="$a
"
      aside $state generation
      forget_generations "$b" "$a" ;;
    retire) # a unit that is not there any more is as good as stopped
      out=$(systemctl disable --now "$a" 2>&1) || {
        case $(systemctl show -p LoadState --value "$a") in not-found) ;; *) fail "stop $a: $out" ;; esac
      }
      systemctl reset-failed "$a" 2>/dev/null
      rm -f "$state/units/$a" ;;
    remove) run rm -f "$a" "$a.aesop-new" ;;
    rmdir) rmdir "$a" 2>/dev/null ;;
    artifact-remove) [ -n "$a" ] && run rm -rf "$artifacts/$a" "$artifacts/$a.new" ;;
    remove-data)
      case $a in /*/*) run rm -rf --one-file-system "$a" ;; *) fail "refusing to remove $a" ;; esac ;;
    putback) # paths: as they were before this commit; what was not there goes
      for path in $a; do
        if [ -f "$state/former$path" ]; then
          run cp -p "$state/former$path" "$path.aesop-new"
          in_place "$path"
        else
          run rm -f "$path"
        fi
      done ;;
    downtime) # folder name host service seconds reason: the monitor's own clock says when it ends
      if [ -d "$a" ]; then
        until=$(date -u -d "@$(($(date +%s) + e))" +%Y-%m-%dT%H:%M:%SZ)
        printf '{"host":"%s","service":"%s","until":"%s","reason":"%s"}\n' "$c" "$d" "$until" "$f" >"$a/$b.json.aesop-new" || fail "cannot write $a/$b.json"
        in_place "$a/$b.json"
      else
        # An apply works without a monitor; a person who announces something must know.
        case $b in maintenance-*) fail "no monitor has run on this host yet" ;; esac
      fi ;;
    downtime-end) rm -f "$a/$b.json" ;;
    packages)
      out=$(lock_holder /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/cache/apt/archives/lock)
      [ -z "$out" ] || printf 'note|%s|%s\n' "$n" "$(printf 'waiting two minutes at most for %s, which holds the lock of the package manager' "$out" | base64 -w0)"
      out=$(apt-get -o DPkg::Lock::Timeout=120 -y --no-install-recommends install $a 2>&1) || {
        run apt-get -o DPkg::Lock::Timeout=120 update
        run apt-get -o DPkg::Lock::Timeout=120 -y --no-install-recommends install $a
      } ;;
    user) run useradd --system --user-group --no-create-home --home-dir "$b" --shell /usr/sbin/nologin "$a" ;;
    directory)
      run install -d -m "$a" -o "$b" -g "$c" "$d" ;;
    link)
      run ln -s -n -f "$b" "$a.aesop-new"
      run mv -T -f "$a.aesop-new" "$a" ;;
    artifact) # id: its files follow as "part" steps, then "artifact-end"
      rm -rf "$artifacts/$a.new"
      run mkdir -p "$artifacts/$a.new" ;;
    part) # id size mode name
      body "$b" >"$artifacts/$a.new/$d" || fail "cannot write $artifacts/$a.new/$d"
      run chmod "$c" "$artifacts/$a.new/$d" ;;
    artifact-end) # id: SHA512SUMS is one of the parts
      cd "$artifacts/$a.new" || fail "cannot enter $artifacts/$a.new"
      sums=$(sha512sum --quiet -c SHA512SUMS 2>&1) || fail "artifact $a arrived damaged: $sums
apply again; where it happens again, look at the disk under $artifacts"
      cd /
      set +f
      run sync "$artifacts/$a.new"/* "$artifacts/$a.new"
      set -f
      rm -rf "${artifacts:?}/$a"
      run mv -T "$artifacts/$a.new" "$artifacts/$a" ;;
    file) # mode owner group path: one of the files of the next "commit"
      written="$written $d" meant="$meant$a:$b:$c
" ;;
    commit) # size of an archive: files in folders .aesop-new beside their places
      put_in_place "$a" ;;
    sysctl) # a container may not set them: its host does
      out=$(sysctl -q -p "$a" 2>&1) || printf 'note|%s|%s\n' "$n" "$(printf '%s' "$out" | base64 -w0)" ;;
    daemon-reload) run systemctl daemon-reload ;;
    enable) # units; links alone, of which a running systemd needs to know nothing, but a newer one wants to
      run systemctl -q --no-reload enable $a
      case $(systemctl show -P NeedDaemonReload "${a%% *}") in yes) run systemctl daemon-reload ;; esac
      ;;
    start) run systemctl --no-block start $a ;; # units
    restart) # unit, and seconds where its gate asks systemd alone: it says how this ended
      if [ -n "$b" ]; then
        verb=restart
        until start_within "$b" "$verb" "$a"; do # what stops takes the time that its unit allows, as below
          verb=start
          case $(systemctl show -p ActiveState --value "$a") in deactivating) ;; *) break ;; esac
        done
      else
        # A unit that fell into its start limit must be allowed to try the new configuration.
        systemctl reset-failed "$a" 2>/dev/null
        out=$(systemctl stop "$a" 2>&1) || fail "stop $a: $out"
        run systemctl --no-block start "$a"
      fi ;;
    reboot) # answers before it goes down
      keep
      run systemctl --no-block reboot ;;
    halt) out=$(systemctl stop "$a" 2>&1) || fail "stop $a: $out" ;;
    reload) run systemctl --no-block reload-or-restart "$a" ;;
    started) record "$a" "$b" "$c" 0 ;;
    ready) record "$a" "$b" "$c" 1 ;;
    kafka-format) # java artifact config cluster controllers marker
      set -- format -t "$d" -c "$c"
      case $e in
        '') ;;
        -) set -- "$@" --no-initial-controllers ;;
        *) set -- "$@" --initial-controllers "$e" ;;
      esac
      run runuser -u kafka -- "$a" -Xmx256m -Dlog4j2.configurationFile=/etc/aesop/kafka/tools-log4j2.properties \
        -cp "$b/*" kafka.tools.StorageTool "$@" ;;
    member) # seconds arguments of `aesop member`: what it says while it works are notes
      keep
      err=$state/member.err
      rm -f $err $err.rc
      { timeout -k 10 "$a" /opt/aesop/bin/aesop member $b 2>$err || echo "failed $?" >>$err.rc; } |
        while IFS= read -r line; do printf 'note|%s|%s\n' "$n" "$(printf '%s' "$line" | base64 -w0)"; done
      if [ -e $err.rc ]; then
        read -r _ status <$err.rc
        rm -f $err.rc
        [ "$status" != 124 ] || echo "not done within $a s" >>$err
        fail "$(tail -n 20 $err)"
      fi
      rm -f $err ;;
    gate) # unit timeout test patience down: "down" passes what does not run
      case $c in "units "*) await_units "$b" ${c#units }; printf 'done|%s\n' "$n"; n=$((n + 1)); continue ;; esac
      keep
      begun=$(date +%s) first=$(restarts "$a") out= last= said=0
      end=$((begun + b))
      while [ "$e" != down ] || [ "$(systemctl show -p MainPID --value "$a")" != 0 ]; do
        out=$(/opt/aesop/bin/aesop ready --timeout 3 $c 2>&1)
        code=$?
        [ "$code" -ne 0 ] || break
        at=$(date +%s)
        if [ "$code" -eq 4 ] && [ "$out" != "$last" ] && [ "$at" -lt $((begun + d)) ]; then
          # It gets on, and is waited for from here.
          last=$out end=$((at + b))
          if [ "$at" -ge $((said + 60)) ]; then
            said=$at
            printf 'note|%s|%s\n' "$n" "$(printf '%s' "${out#error: }" | base64 -w0)"
          fi
        fi
        now=$(systemctl show -p ActiveState --value "$a")
        # What waits for others does so inside; what falls five times over will go on falling.
        if [ "$now" = failed ] || [ $(($(restarts "$a") - first)) -ge 5 ]; then
          fail "$a does not stay up
$(last_log "$a")"
        fi
        [ "$at" -lt "$end" ] || fail "$out
$(last_log "$a")"
      done ;;
    *) fail "unknown step $op" ;;
  esac
  printf 'done|%s\n' "$n"
  n=$((n + 1))
done <<EOF
$I
EOF
keep
[ -z "$old" ] || rm -f $old
