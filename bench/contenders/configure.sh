# As one writes it by hand: each thing is looked at, and made right where it is not. Runs as root; `$payload` holds the files.
set -euo pipefail
restart=""

missing=""
for package in $packages; do
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $missing >/dev/null
fi

if [ "$(cat $prefix/.lightsout-installed 2>/dev/null)" != "sha256:$checksum" ] || ! [ -x $prefix/bin/python ] \
  || ! [ -e $prefix/conda-meta/history ]; then
  curl --fail --silent --show-error --output /opt/installer.sh "$installer"
  echo "$checksum  /opt/installer.sh" | sha256sum --check --quiet
  install --directory --owner=ubuntu --group=ubuntu $prefix
  chmod 0755 /opt/installer.sh
  sudo -u ubuntu bash /opt/installer.sh -b -u -p $prefix >/dev/null
  sudo -u ubuntu $prefix/bin/python -c ''
  echo "sha256:$checksum" > $prefix/.lightsout-installed
  chown ubuntu:ubuntu $prefix/.lightsout-installed
  rm /opt/installer.sh
fi

folder() {  # path mode owner group
  [ "$(stat --format '0%a %U %G' "$1" 2>/dev/null)" = "$2 $3 $4" ] || install --directory --mode="$2" --owner="$3" --group="$4" "$1"
}
file() {  # path mode owner group
  if [ "$(stat --format '0%a %U %G' "$1" 2>/dev/null)" != "$2 $3 $4" ] || ! cmp --silent "$payload$1" "$1"; then
    install --mode="$2" --owner="$3" --group="$4" "$payload$1" "$1"
    case "$1" in *jupyter*) restart=yes ;; esac
  fi
}
while read -r kind arguments; do $kind $arguments; done < "$payload/list"

if ! grep --quiet 'BEGIN Anaconda on the PATH (Lightsout)' /etc/bash.bashrc; then
  {
    echo '# BEGIN Anaconda on the PATH (Lightsout)'
    echo '. /etc/profile.d/lightsout-anaconda.sh'
    echo '# END Anaconda on the PATH (Lightsout)'
    cat /etc/bash.bashrc
  } > /etc/bash.bashrc.new
  chmod 0644 /etc/bash.bashrc.new
  mv /etc/bash.bashrc.new /etc/bash.bashrc
fi

cd $jupyter
if ! openssl x509 -in certificate.pem -noout -checkend 2592000 >/dev/null 2>&1 \
  || ! cmp --silent <(openssl x509 -in certificate.pem -noout -pubkey) <(openssl pkey -in private_key.pem -pubout 2>/dev/null) \
  || ! openssl x509 -in certificate.pem -noout -ext subjectAltName | grep --quiet "IP Address:$address,"; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 825 -subj "/CN=$address" \
    -addext "subjectAltName=IP:$address,DNS:localhost,IP:127.0.0.1" -keyout private_key.pem -out certificate.pem 2>/dev/null
  chown root:ubuntu private_key.pem
  chmod 0640 private_key.pem
  chmod 0644 certificate.pem
  restart=yes
fi

systemctl is-enabled --quiet jupyter.service 2>/dev/null || { systemctl daemon-reload; systemctl enable --quiet jupyter.service; }
if [ -n "$restart" ] || ! systemctl is-active --quiet jupyter.service; then
  systemctl daemon-reload
  systemctl restart jupyter.service
  for try in $(seq 150); do
    curl --insecure --silent --output /dev/null https://127.0.0.1:8888/api && break
    sleep 0.2
  done
fi
