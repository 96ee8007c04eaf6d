# Starts a command and tells of it in lines of ASCII on standard output; see protocol.go.
# perl -e THIS -- ACK WINDOW FOLDER INPUT PROGRAM ARGUMENT…
use strict;
use IO::Handle ();
use POSIX ();
my ($ack, $window, $dir, $input, @argv) = @ARGV;
binmode STDOUT;

# The environment, as hexadecimal. A shell may have left a child that wrote it.
my $env = do { local $/; <STDIN> };
$env = '' unless defined $env;
$env =~ tr/0-9a-f//cd;
waitpid -1, 0;

sub say_all {
  my ($text, $at) = ($_[0], 0);
  while ($at < length $text) {
    my $n = syswrite STDOUT, $text, length($text) - $at, $at;
    if (defined $n) { $at += $n }
    elsif (!$!{EINTR}) { POSIX::_exit(1) }
  }
}

# base64 by hand: the smallest perl has no module for it.
sub base64 {
  my $text = pack 'u', $_[0];
  $text =~ s/^.//gm;
  $text =~ tr/\n//d;
  $text =~ tr|` -_|AA-Za-z0-9+/|;
  my $pad = (3 - length($_[0]) % 3) % 3;
  substr($text, -$pad) = '=' x $pad if $pad;
  return $text;
}

if ($dir ne '' && !chdir $dir) { say_all("refused $!\n"); POSIX::_exit(0) }
my ($out_r, $out_w, $err_r, $err_w, $end_r, $end_w, $in_r, $in_w);
pipe($out_r, $out_w) && pipe($err_r, $err_w) && pipe($end_r, $end_w) && pipe($in_r, $in_w) or do { say_all("failed $!\n"); POSIX::_exit(1) };
$SIG{PIPE} = 'IGNORE'; # a command that does not read its input is no reason to end
$SIG{CHLD} = sub { local $!; syswrite $end_w, 'x' };
my $pid = fork;
if (!defined $pid) { say_all("failed $!\n"); POSIX::_exit(1) }
if (!$pid) {
  $SIG{$_} = 'DEFAULT' for qw(CHLD PIPE INT QUIT HUP TERM USR1 USR2 ALRM);
  POSIX::setsid();
  close $in_w; # without input this is its end
  POSIX::dup2(fileno $in_r, 0);
  POSIX::dup2(fileno $out_w, 1);
  POSIX::dup2(fileno $err_w, 2);
  POSIX::close($_) for 3 .. 63;
  for (split /\0/, pack 'H*', $env) { my ($name, $value) = split /=/, $_, 2; $ENV{$name} = $value }
  { no warnings; exec { $argv[0] } @argv }
  my ($why, $code) = ("$!", $!{ENOENT} || $!{ENOTDIR} ? 127 : 126);
  $why = "$argv[0]: $why\n";
  syswrite STDERR, $why;
  POSIX::_exit($code);
}
$SIG{TERM} = sub { kill 'KILL', -$pid; POSIX::_exit(1) };
close $out_w;
close $err_w;
close $in_r;
$input eq '' ? close $in_w : $in_w->blocking(0);
say_all("started $pid\n");

my %stream = (o => { from => $out_r, sent => 0, acked => 0 }, e => { from => $err_r, sent => 0, acked => 0 });
my $ended = 0;

# What the other side has taken over, or that it wants no more.
sub read_ack {
  open my $file, '<', $ack or return;
  my $line = <$file>;
  close $file;
  return unless defined $line;
  if ($line =~ /^close/) { unlink $ack; POSIX::_exit(0) }
  return unless $line =~ /^(\d+) (\d+)$/;
  $stream{o}{acked} = $1 if $stream{o} && $1 > $stream{o}{acked};
  $stream{e}{acked} = $2 if $stream{e} && $2 > $stream{e}{acked};
}

# Input comes in files INPUT.0, INPUT.1, …: the length of what follows, a line end, and
# that; or "close". Each is removed when the next is there: then it is no longer being
# made.
my ($feeding, $piece, $pieces, $fed, $idle) = ($input ne '', '', 0, 0, 0.01);

sub next_piece {
  open my $file, '<', "$input.$pieces" or return;
  binmode $file;
  local $/;
  my $text = <$file>;
  close $file;
  return unless defined $text && $text =~ s/^(close|\d+)\n//;
  if ($1 eq 'close') { stop_feeding(0); return }
  return if length $text != $1; # it is just being written
  $piece = $text;
  unlink "$input." . ($pieces - 1);
}

sub stop_feeding {
  return unless $feeding;
  $feeding = 0;
  close $in_w;
  say_all("I $fed\n") if $_[0];
}

sub feed {
  my $n = syswrite $in_w, $piece;
  if (!defined $n) { stop_feeding(1) unless $!{EAGAIN} || $!{EINTR}; return }
  $fed += $n;
  $piece = substr $piece, $n;
  return if length $piece;
  $pieces++;
  $idle = 0.01;
  say_all("i $fed\n");
}

while (%stream || !$ended) {
  stop_feeding(1) if $ended;
  next_piece() if $feeding && $piece eq '';
  my ($bits, $held, $writes) = ('', 0, '');
  for (values %stream) {
    if ($_->{sent} - $_->{acked} < $window) { vec($bits, fileno $_->{from}, 1) = 1 }
    else { $held = 1 }
  }
  vec($bits, fileno $end_r, 1) = 1 unless $ended;
  my $lingers = $ended && %stream;
  my $wait = $held || $lingers ? 0.05 : undef;
  if ($feeding && $piece eq '') { # look again soon, and not so soon when nothing comes
    $wait = $idle unless defined $wait && $wait < $idle;
    $idle = $idle * 1.5 > 0.25 ? 0.25 : $idle * 1.5;
  }
  vec($writes, fileno $in_w, 1) = 1 if $feeding && $piece ne '';
  my $n = select($bits, $writes, undef, $wait);
  read_ack() if $held || $lingers;
  next if $n <= 0;
  feed() if $feeding && $piece ne '' && vec($writes, fileno $in_w, 1);
  for my $name (sort keys %stream) {
    my $s = $stream{$name};
    next unless vec($bits, fileno $s->{from}, 1);
    my $most = $window - $s->{sent} + $s->{acked};
    my $got = sysread $s->{from}, my $data, $most < 32768 ? $most : 32768;
    next if !defined $got;
    if ($got) { say_all("$name $s->{sent} " . base64($data) . "\n"); $s->{sent} += $got; next }
    say_all(uc($name) . " $s->{sent}\n");
    close $s->{from};
    delete $stream{$name};
  }
  if (!$ended && vec($bits, fileno $end_r, 1)) {
    sysread $end_r, my $none, 64;
    if (waitpid($pid, POSIX::WNOHANG()) == $pid) {
      say_all(($? & 127) ? 'killed ' . ($? & 127) . "\n" : 'exited ' . ($? >> 8) . "\n");
      $ended = 1;
    }
  }
}
unlink $ack, map { "$input.$_" } $pieces - 1, $pieces;
