"""Addresses that a webhook must never have: places inside, in every way of writing them."""

# ruff: noqa: SIM905 - words are read more easily without their quotes

from __future__ import annotations

# addresses inside, in every way of writing them
INSIDE = """
127.0.0.1 127.1 127.0.0.01 0177.0.0.1 0x7f.0.0.1 0x7f000001 2130706433 017700000001 0 0.0.0.0
0.0.0.0.0 127.0.0.1. 127.255.255.254 1.1 0x 00 999.1.1.1 256.256.256.256 1.2.3 1.2.3.4.5
10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.1.254 100.64.0.1
100.100.100.200 169.254.169.254 169.254.170.2 192.0.0.192 192.0.0.8 192.0.2.1 198.18.0.1
198.19.255.255 198.51.100.1 203.0.113.1 168.63.129.16 192.88.99.1 224.0.0.1 239.255.255.250
240.0.0.1 255.255.255.255
[::] [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1]
[::ffff:8.8.8.8] [::127.0.0.1] [::7f00:1] [::ffff:0:127.0.0.1] [64:ff9b::7f00:1]
[64:ff9b::a9fe:a9fe] [64:ff9b:1::1] [100::1] [2001::1] [2001:0:7f00:1::] [2001:2::1]
[2001:10::1] [2001:20::1] [2001:db8::1] [2002:7f00:1::] [2002:a9fe:a9fe::] [3fff::1] [5f00::1]
[fc00::1] [fd00:ec2::254] [fd12:3456::1] [fe80::1] [fe80::1%25eth0] [fe80::1%eth0] [fec0::1]
[ff02::1] [ff0e::1] [4000::1] [2606:4700::1%25lo] [::1 [v1.x] [] [1]
localhost LOCALHOST localhost. localhost.localdomain app.localhost printer.local nas.lan
metadata.google.internal router.home.arpa db wiki intranet.intranet vault.internal
""".split()

ELSEWHERE = """
http://example.com/ HTTP://example.com/ //example.com/ example.com https:example.com https:/x
https:// https:///etc/passwd https://?x https://:443/ https://.example.com/ https://example..com/
https://-x.example.com/ https://x-.example.com/ https://example.com./ https://user@example.com/
https://user:pass@example.com/ https://@example.com/ https://:@example.com/
https://example.com@127.0.0.1/ https://127.0.0.1@example.com/ https://example.com:443@10.0.0.1/
https://example.com:22/ https://example.com:25/ https://example.com:6379/ https://example.com:80/
https://example.com:8080/ https://example.com:0/ https://example.com:99999/
https://example.com:-1/ https://example.com:443x/ https://example.com:0x1bb/
https://example.com%2f@10.0.0.1/ https://example.com%00.evil.com/ https://ex%61mple.com/
https://example.com\\@127.0.0.1/ https:\\\\example.com/ https://example.com/#@127.0.0.1/
https://example.com#@127.0.0.1/ https://127。0。0。1/ https://①②⑦.0.0.1/ https://ⓛocalhost/
https://exämple.com/ https://example.com/ü https://[example.com]/ https://[::1]x/ https://a]/
https://example.com/"x https://example.com/<x> https://example.com/{x} https://example.com/|
ftp://example.com/ file:///etc/passwd gopher://127.0.0.1:6379/_x dict://127.0.0.1:11211/
javascript:alert(1) data:text/plain,x ldap://127.0.0.1/ unix:///run/docker.sock jar:https://x!/
https://[64:ff9b::10.0.0.1]/ https://[2002:c0a8:101::]/ https://[2001:0:53aa:64c:0:fbff:8000:1]/
https://[0:0:0:0:0:ffff:169.254.169.254]/ https://0xA9FEA9FE/ https://0251.0376.0251.0376/
https://2852039166/ https://169.254.43518/ https://0xa9.254.0251.0xfe/ https://[fd00:ec2::254]:443/
https://metadata.google.internal:8443/computeMetadata/v1/ https://instance-data.internal/latest/
https://localhost6/ https://ip6-localhost/ https://localhost.local/ https://0/ https://0.0/
https://127.0.0.1:8443/ https://127.1:8443/ https://[::1]:8443/ https://localhost:8443/
https://①②⑦.①/ https://127%2e0%2e0%2e1/ https://127.0.0.1%00/ https://127.0.0.1%23@example.com/
https://example.com:8443@127.0.0.1:8443/ https://[::ffff:7f00:1]:8443/ https://0177.1:8443/
ws://127.0.0.1/ netdoc:///etc/passwd mailto://user:pass@example.com discord://1/2
json://127.0.0.1/ apprise+json://127.0.0.1/ apprise+https://127.0.0.1/ syslog://
slack+http://127.0.0.1/x slack+https://10.0.0.1/services/x slack+ftp://example.com/x
https://hooks.slack.com/workflows/T1/A1/1/x https://hooks.slack.com/triggers/T1/1/x
https://hooks.slack.com/ http://hooks.slack.com/services/T1/B1/x
""".split()

HOSTILE = [
    *(f"https://{host}/hook" for host in INSIDE),
    *(f"https://{host}:8443/" for host in INSIDE[:12]),
    *ELSEWHERE,
    "",
    " https://example.com/",
    "https://example.com/ x",
    "https://exam\nple.com/",
    "https://example.com/\r\nHost: 127.0.0.1",
    "https://example.com/\x00",
    "ht\ttps://127.0.0.1/",
    "https://example.com/\x7f",
    "https://example.com/" + "x" * 2048,
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 130 + "com/",
]

# whatever a release of Python says of them
NOT_PUBLIC = """
0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 168.63.129.16 169.254.169.254 172.16.0.1 192.0.0.192
192.88.99.1 192.168.0.1 198.18.0.1 224.0.0.1 233.252.0.1 240.0.0.1 255.255.255.255 :: ::1
::ffff:8.8.8.8 ::ffff:10.0.0.1 64:ff9b::808:808 100::1 2001::1 2001:db8::1 2002:808:808::1 3fff::1
4000::1 fd00::1 fe80::1 fe80::1%lo 2606:4700::1111%lo ff02::1
""".split()

# what a name of the internet may lead to, once it is looked up
LEADS_INSIDE = [
    *NOT_PUBLIC,
    *"127.0.0.2 127.255.255.254 10.255.255.255 169.254.170.2 100.100.100.200 172.31.0.1".split(),
    *"::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::a9fe:a9fe 2002:7f00:1::".split(),
    *"2001:0:7f00:1:: fd00:ec2::254 fec0::1 ff0e::1 fe80::a9fe:a9fe ::ffff:0:7f00:1".split(),
]
