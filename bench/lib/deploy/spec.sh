# The end state that every tool of bench/deploy shall make, and the script that says whether it is there. Source it.
# One user, five directories, FILES rendered files, one artifact of 5 MB, three units.
app=benchapp
directories="/opt/bench /srv/bench /srv/bench/a /srv/bench/b /srv/bench/c"
units="bench-one bench-two bench-three"
artifact=/opt/bench/app.bin

# path_of N: where the Nth file is
path_of() {
    local folders=(a b c)
    echo "/srv/bench/${folders[$1 % 3]}/file$1.conf"
}

# template N: the Nth file with places for what differs between hosts
template() {
    local line
    echo "# file $1 of @NAME@ (@ADDRESS@)"
    [ "$1" != 0 ] || echo "level = @LEVEL@"
    for line in $(seq 30); do echo "setting.$1.$line = value-$line-of-@NAME@"; done
}

# unit NAME: it keeps a copy of the first file as it was when the unit started
unit() {
    cat <<EOF
[Unit]
Description=Benchmark $1
[Service]
User=$app
RuntimeDirectory=$1
ExecStart=/bin/sh -c 'cp /srv/bench/a/file0.conf /run/$1/level; exec sleep infinity'
[Install]
WantedBy=multi-user.target
EOF
}

# render NAME ADDRESS LEVEL: stdin with its places filled in
render() { sed -e "s/@NAME@/$1/g" -e "s/@ADDRESS@/$2/g" -e "s/@LEVEL@/$3/g"; }

# tree FOLDER NAME ADDRESS LEVEL: everything of a host but its user, below FOLDER
tree() {
    local root=$1 number directory unit
    for directory in $directories; do mkdir -p "$root$directory"; done
    for number in $(seq 0 $((files - 1))); do
        template "$number" | render "$2" "$3" "$4" >"$root$(path_of "$number")"
    done
    mkdir -p "$root/etc/systemd/system"
    for unit in $units; do unit "$unit" >"$root/etc/systemd/system/$unit.service"; done
    cp "$work/app.bin" "$root$artifact"
    for directory in $directories; do chmod 750 "$root$directory"; done
    chmod 640 "$root"/srv/bench/?/*.conf
}

# pack FOLDER ARCHIVE: a tree with its owners; the same content gives the same bytes
pack() {
    tar -C "$1" --mtime=@0 --sort=name --owner="$app:990" --group="$app:990" -cf "$2" ./opt/bench ./srv/bench
    (cd "$1" && tar --mtime=@0 --owner=root:0 --group=root:0 -rf "$2" ./etc/systemd/system/bench-*.service)
}

# checker FOLDER: a program for a host, root's, that says what of the tree in FOLDER is not so there. It prints nothing
# where all is, but for the invocations of the units, by which a restart is seen.
checker() {
    local root=$1 directory number
    echo 'fail() { echo "WRONG $*"; }'
    echo 'same() { [ "$2" = "$3" ] || fail "$1 is $2, not $3"; }'
    echo "id -u $app >/dev/null 2>&1 || fail 'no user'"
    for directory in $directories; do
        echo "same $directory \"\$(stat -c %a:%U:%G $directory)\" 750:$app:$app"
    done
    echo "cd / && sha256sum --quiet -c - <<'EOF' || fail files"
    (cd "$root" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
    echo EOF
    for number in $(seq 0 $((files - 1))); do
        echo "same file$number \"\$(stat -c %a:%U:%G $(path_of "$number"))\" 640:$app:$app"
    done
    for unit in $units; do
        echo "same $unit \"\$(systemctl is-active $unit) \$(systemctl is-enabled $unit)\" 'active enabled'"
        echo "echo $unit \$(systemctl show -p InvocationID --value $unit)"
    done
    echo "cmp -s /run/bench-one/level /srv/bench/a/file0.conf || fail 'bench-one runs with another file'"
}

# What a host is again before the next tool.
cleaner() {
    cat <<EOF
systemctl disable -q --now $units 2>/dev/null
for unit in $units; do rm -f /etc/systemd/system/\$unit.service; done
systemctl daemon-reload
rm -rf /opt/bench /srv/bench /opt/aesop /etc/aesop /var/lib/aesop /var/log/aesop /home/deploy/.ansible /tmp/pyinfra*
id -u $app >/dev/null 2>&1 && userdel $app
id -u aesop >/dev/null 2>&1 && userdel aesop
sync
true
EOF
}
