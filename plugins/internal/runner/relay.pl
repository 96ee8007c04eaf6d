# Carries a connection to a port: standard input goes there, and what comes back goes
# to standard output; see tunnel.go.
# perl -e THIS -- PORT ADDRESS…
use strict;
use POSIX ();
use Socket;
my ($port, @addresses) = @ARGV;
my ($conn, $why) = (undef, 0);
for my $address (@addresses) {
  my $family = $address =~ /:/ ? AF_INET6 : AF_INET;
  my $ip = Socket::inet_pton($family, $address);
  if (socket $conn, $family, SOCK_STREAM, 0) {
    last if connect $conn, $family == AF_INET6 ? Socket::pack_sockaddr_in6($port, $ip) : pack_sockaddr_in($port, $ip);
  }
  $why = $! + 0;
  undef $conn;
}
if (!$conn) { syswrite STDERR, "refused $why\n"; POSIX::_exit(1) }
$SIG{PIPE} = 'IGNORE';
syswrite STDERR, "open\n";

sub carry {
  my ($from, $to) = @_;
  while (1) {
    my $n = sysread $from, my $data, 1 << 16;
    if (!defined $n) { next if $!{EINTR}; return 0 }
    return 1 unless $n;
    for (my $at = 0; $at < $n;) {
      my $m = syswrite $to, $data, $n - $at, $at;
      if (defined $m) { $at += $m }
      elsif (!$!{EINTR}) { return 0 }
    }
  }
}

my $pid = fork;
if (!defined $pid) { syswrite STDERR, 'reset ' . ($! + 0) . "\n"; POSIX::_exit(1) }
if (!$pid) {
  POSIX::close(1);
  shutdown $conn, 1 if carry(\*STDIN, $conn);
  POSIX::_exit(0);
}
POSIX::close(0);
if (!carry($conn, \*STDOUT)) {
  syswrite STDERR, 'reset ' . ($! + 0) . "\n";
  kill 'KILL', $pid;
  POSIX::_exit(1);
}
syswrite STDERR, "end\n";
POSIX::close(1);
waitpid $pid, 0;
POSIX::_exit(0);
