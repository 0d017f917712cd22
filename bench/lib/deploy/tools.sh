# The tools that bench/deploy compares: `NAME_prepare`, once; `NAME_ready WHAT LEVEL`, before the clock runs; `NAME_run WHAT
# LEVEL`, which brings all hosts to the end state. WHAT is first, again or change. Source it after spec.sh.

# --- the floor: one plain ssh a host, all at once, with whatever a person would put into one script ---
floor_prepare() { mkdir -p "$work/floor"; }

floor_ready() {
    local host number
    paths=$(for number in $(seq 0 $((files - 1))); do path_of "$number"; done | tr '\n' ' ')
    for host in $names; do
        case $1 in
            first)
                tree "$work/floor/tree" "$host" "${address[$host]}" "$2"
                pack "$work/floor/tree" "$work/floor/$host.in"
                rm -rf "$work/floor/tree" ;;
            again) : >"$work/floor/$host.in" ;;
            change) template 0 | render "$host" "${address[$host]}" "$2" >"$work/floor/$host.in" ;;
        esac
    done
}

floor_run() {
    local host pids=() pid command
    case $1 in
        first) command="useradd -r -s /usr/sbin/nologin -M $app && tar -xpf - -C / && systemctl daemon-reload && systemctl enable -q --now $units" ;;
        # Hashes, modes and states.
        again) command="sha256sum $paths $artifact; stat -c %a:%U:%G $directories $paths; systemctl is-active $units; systemctl is-enabled $units; id -u $app" ;;
        change) command="umask 027; cat >/srv/bench/a/.new && chown $app:$app /srv/bench/a/.new && mv /srv/bench/a/.new /srv/bench/a/file0.conf && systemctl restart bench-one" ;;
    esac
    for host in $names; do
        $ssh "deploy@${address[$host]}" "sudo sh -c '$command'" <"$work/floor/$host.in" >"$work/floor/$host.out" 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || { cat "$work"/floor/*.out; return 1; }; done
}

# --- aesop ---
aesop_prepare() {
    local number directory unit
    mkdir -p "$work/aesop/t"
    for number in $(seq 0 $((files - 1))); do
        template "$number" | sed -e 's/@NAME@/{{ host.name }}/g; s/@ADDRESS@/{{ host.address }}/g; s/@LEVEL@/{{ vars.level }}/g' >"$work/aesop/t/$number.j2"
    done
    for unit in $units; do unit "$unit" >"$work/aesop/t/$unit.service"; done
}

aesop_inventory() { # LEVEL
    local host number directory unit
    echo "cluster: bench"
    echo "ssh: {user: deploy, identity_file: $key, known_hosts: $known_hosts}"
    echo "hosts:"
    for host in $names; do echo "  $host: {address: ${address[$host]}}"; done
    echo "extras:"
    echo "  bench:"
    echo "    hosts: [\"*\"]"
    echo "    vars: {level: $1}"
    echo "    users: [$app]"
    echo "    directories:"
    for directory in $directories; do echo "      $directory: {mode: 750, owner: $app}"; done
    echo "    files:"
    for number in $(seq 0 $((files - 1))); do
        echo "      $(path_of "$number"): {template: t/$number.j2, mode: 640, owner: $app}"
    done
    echo "    artifacts: {$artifact: {file: ../app.bin}}"
    echo "    units:"
    for unit in $units; do
        echo "      $unit.service: {file: t/$unit.service, restart_on: [$([ "$unit" != bench-one ] || path_of 0)]}"
    done
}

aesop_ready() { aesop_inventory "$2" >"$work/aesop/bench.yml"; }
aesop_run() { $aesop -i "$work/aesop/bench.yml" apply --yes; }

# --- ansible ---
ansible_prepare() {
    local host number unit
    mkdir -p "$work/ansible/t"
    : >"$work/ansible/ansible.cfg"
    for number in $(seq 0 $((files - 1))); do
        template "$number" | sed -e 's/@NAME@/{{ inventory_hostname }}/g; s/@ADDRESS@/{{ ansible_host }}/g; s/@LEVEL@/{{ level }}/g' >"$work/ansible/t/$number.j2"
    done
    for unit in $units; do unit "$unit" >"$work/ansible/t/$unit.service"; done
    {
        echo "[all]"
        for host in $names; do echo "$host ansible_host=${address[$host]}"; done
        echo "[all:vars]"
        echo "ansible_user=deploy"
        echo "ansible_python_interpreter=/usr/bin/python3"
        echo "ansible_ssh_private_key_file=$key"
        echo "ansible_ssh_common_args=-o UserKnownHostsFile=$known_hosts"
    } >"$work/ansible/hosts"
    {
        echo "- hosts: all"
        echo "  become: true"
        echo "  tasks:"
        echo "    - user: {name: $app, system: true, create_home: false, shell: /usr/sbin/nologin}"
        echo "    - file: {path: '{{ item }}', state: directory, mode: '0750', owner: $app, group: $app}"
        echo "      loop: [$(echo $directories | tr ' ' ,)]"
        echo "    - template: {src: 't/{{ item.n }}.j2', dest: '{{ item.path }}', mode: '0640', owner: $app, group: $app}"
        echo "      loop:"
        for number in $(seq 0 $((files - 1))); do echo "        - {n: $number, path: $(path_of "$number")}"; done
        echo "      register: rendered"
        echo "    - copy: {src: $work/app.bin, dest: $artifact, mode: '0644'}"
        echo "    - copy: {src: 't/{{ item }}.service', dest: '/etc/systemd/system/{{ item }}.service'}"
        echo "      loop: [$(echo $units | tr ' ' ,)]"
        echo "      register: unit_files"
        echo "    - systemd: {name: '{{ item }}', state: started, enabled: true, daemon_reload: '{{ unit_files is changed }}'}"
        echo "      loop: [$(echo $units | tr ' ' ,)]"
        echo "    - systemd: {name: bench-one, state: restarted}"
        echo "      when: rendered.results[0] is changed"
    } >"$work/ansible/play.yml"
    # Its best case: rendered here, sent as one archive.
    {
        echo "- hosts: all"
        echo "  become: true"
        echo "  gather_facts: false"
        echo "  tasks:"
        echo "    - user: {name: $app, system: true, create_home: false, shell: /usr/sbin/nologin}"
        echo "    - unarchive: {src: '$work/ansible/{{ inventory_hostname }}.tar', dest: /}"
        echo "      register: unpacked"
        echo "    - systemd: {name: '{{ item }}', state: started, enabled: true, daemon_reload: '{{ unpacked is changed }}'}"
        echo "      loop: [$(echo $units | tr ' ' ,)]"
        echo "    - systemd: {name: bench-one, state: restarted}"
        echo "      when: unpacked is changed"
    } >"$work/ansible/best.yml"
}

ansible_play() { # SETTINGS... -- PLAY LEVEL
    local settings=()
    while [ "$1" != -- ]; do settings+=("$1"); shift; done
    (cd "$work/ansible" && env ANSIBLE_CONFIG="$work/ansible/ansible.cfg" ANSIBLE_NOCOWS=1 ANSIBLE_LOCAL_TEMP="$work/ansible/tmp" "${settings[@]}" \
        "$venv/bin/ansible-playbook" -i hosts -e "level=$3" "$2")
}

default_ready() { :; }
default_run() { ansible_play ANSIBLE_FORKS=5 -- play.yml "$2"; }
tuned_ready() { :; }
tuned_run() { ansible_play ANSIBLE_FORKS=10 ANSIBLE_PIPELINING=True ANSIBLE_GATHERING=explicit -- play.yml "$2"; }
best_ready() {
    local host
    for host in $names; do
        tree "$work/ansible/tree" "$host" "${address[$host]}" "$2"
        pack "$work/ansible/tree" "$work/ansible/$host.tar"
        rm -rf "$work/ansible/tree"
    done
}
best_run() { ansible_play ANSIBLE_FORKS=10 ANSIBLE_PIPELINING=True ANSIBLE_GATHERING=explicit -- best.yml "$2"; }

# --- pyinfra ---
pyinfra_prepare() {
    local host number unit
    mkdir -p "$work/pyinfra/t"
    for number in $(seq 0 $((files - 1))); do
        template "$number" | sed -e 's/@NAME@/{{ host.name }}/g; s/@ADDRESS@/{{ host.data.address }}/g; s/@LEVEL@/{{ level }}/g' >"$work/pyinfra/t/$number.j2"
    done
    for unit in $units; do unit "$unit" >"$work/pyinfra/t/$unit.service"; done
    {
        echo "hosts = ["
        for host in $names; do
            echo "    ('$host', {'address': '${address[$host]}', 'ssh_hostname': '${address[$host]}', 'ssh_user': 'deploy', 'ssh_key': '$key', 'ssh_known_hosts_file': '$known_hosts', '_sudo': True}),"
        done
        echo "]"
    } >"$work/pyinfra/inventory.py"
    {
        echo "import os"
        echo "from pyinfra.operations import files, server, systemd"
        echo "level = os.environ['LEVEL']"
        echo "server.user(user='$app', system=True, ensure_home=False, create_home=False, shell='/usr/sbin/nologin')"
        echo "for path in '$directories'.split():"
        echo "    files.directory(path=path, mode='750', user='$app', group='$app')"
        for number in $(seq 0 $((files - 1))); do
            echo "one$number = files.template(src='t/$number.j2', dest='$(path_of "$number")', mode='640', user='$app', group='$app', level=level)"
        done
        echo "files.put(src='$work/app.bin', dest='$artifact', mode='644')"
        echo "changed = [files.put(src=f't/{unit}.service', dest=f'/etc/systemd/system/{unit}.service', mode='644') for unit in '$units'.split()]"
        echo "systemd.daemon_reload(_if=[one.did_change for one in changed])"
        echo "for unit in '$units'.split():"
        echo "    systemd.service(service=unit, running=True, enabled=True)"
        echo "systemd.service(service='bench-one', restarted=True, _if=one0.did_change)"
    } >"$work/pyinfra/deploy.py"
}

pyinfra_ready() { :; }
pyinfra_run() { (cd "$work/pyinfra" && LEVEL=$2 "$venv/bin/pyinfra" -y --limit "*" inventory.py deploy.py); }
