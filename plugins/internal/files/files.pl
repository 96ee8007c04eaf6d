# Does one thing to files and says in lines of ASCII what came of it; see filecalls.go.
# perl -e THIS -- WHAT ARGUMENT…
# Starting is most of the time it takes: modules are few, and errors are compared as
# Linux numbers them.
use strict;
use Fcntl qw(O_RDONLY O_WRONLY O_CREAT O_EXCL O_APPEND O_NOFOLLOW);
umask 022;
binmode STDOUT;
my ($what, @args) = @ARGV;
my ($unfinished, $spool, $pieces) = ('', '', 0); # what is removed at the end

sub text { my $t = $_[0]; $t =~ s/([^A-Za-z0-9_.\/-])/sprintf '%%%02X', ord $1/ge; return $t }
sub plain { my $t = $_[0]; $t =~ s/%([0-9A-F]{2})/chr hex $1/ge; return $t }
sub tidy {
  unlink $unfinished if $unfinished ne '';
  unlink map { "$spool.$_" } 0 .. $pieces - 1;
}
sub finish { tidy(); print @_, "done\n"; exit 0 }
sub refuse { my ($path, $errno) = @_; $errno = $! + 0 unless defined $errno; tidy(); print "errno $errno ", text($path), "\n"; exit 0 }

sub kind {
  my $type = $_[0] & 0170000;
  return $type == 0100000 ? 'r' : $type == 0040000 ? 'd' : $type == 0120000 ? 'l' : 'o';
}
sub line {
  my ($name, $target, @s) = @_;
  return sprintf("file %s %o %d %d %d %d %s", kind($s[2]), $s[2] & 07777, @s[4, 5, 7, 9], text($name)) . ($target eq '' ? '' : ' ' . text($target)) . "\n";
}
sub target { my $t = readlink $_[0]; return defined $t ? $t : '' }
sub folder { my $f = $_[0]; $f =~ s{/+$}{}; $f =~ s{[^/]*$}{}; return $f ne '' ? $f : $_[0] =~ m{^/} ? '/' : './' }
sub parents {
  my $dir = $_[0];
  return if -d $dir;
  parents(folder($dir));
  mkdir $dir, 0755 or -d $dir or refuse($dir);
}
sub write_all {
  my ($to, $data) = @_;
  for (my $at = 0; $at < length $data;) {
    my $n = syswrite $to, $data, length($data) - $at, $at;
    return 0 unless defined $n;
    $at += $n;
  }
  return 1;
}

# What was sent comes in files SPOOL.0, SPOOL.1, …, as one stream.
my ($piece, $at_piece, $buffer) = (undef, 0, '');
sub fill {
  while ($at_piece < $pieces) {
    my $name = "$spool.$at_piece";
    if (!$piece) { sysopen $piece, $name, O_RDONLY or refuse($name) }
    my $n = sysread $piece, $buffer, 1 << 18, length $buffer;
    refuse($name) unless defined $n;
    return 1 if $n;
    undef $piece;
    $at_piece++;
    unlink $name;
  }
  return 0;
}
sub copy_to {
  my ($to, $left, $name) = @_; # $left undef: everything
  while (!defined $left || $left > 0) {
    if ($buffer eq '' && !fill()) { defined $left ? refuse($name, 5) : last }
    my $part = defined $left && length $buffer > $left ? substr($buffer, 0, $left, '') : do { my $all = $buffer; $buffer = ''; $all };
    write_all($to, $part) or refuse($name);
    $left -= length $part if defined $left;
  }
}

sub do_stat {
  my ($follow, $path) = @_;
  my @s = $follow ? stat $path : lstat $path;
  refuse($path) unless @s;
  finish(line($path, target($path), @s));
}

sub do_list {
  my ($deep, $limit, $after, $path) = @_;
  $after = plain($after);
  -d $path or refuse($path, lstat $path ? 20 : undef);
  (my $base = $path) =~ s{/*$}{/};
  my (@found, @todo);
  @todo = ('');
  while (defined(my $dir = shift @todo)) {
    my $open = opendir my $handle, "$base$dir";
    if (!$open) { $dir ne '' && $! == 2 ? next : refuse("$base$dir") }
    for my $name (readdir $handle) {
      next if $name eq '.' || $name eq '..';
      push @found, "$dir$name" if "$dir$name" gt $after;
      push @todo, "$dir$name/" if $deep && !-l "$base$dir$name" && -d _;
    }
  }
  my ($out, $n) = ('', 0);
  for my $name (sort @found) {
    if ($n++ == $limit) { $out .= "more\n"; last }
    my @s = lstat "$base$name" or do { $n--; next }; # it has gone meanwhile
    $out .= line($name, target("$base$name"), @s);
  }
  finish($out);
}

# A part of a file goes to a file of its own, unless that is nowhere.
sub do_read {
  my ($offset, $length, $to, $path) = @_;
  sysopen my $from, $path, O_RDONLY or refuse($path);
  my @s = stat $from;
  refuse($path, 21) if kind($s[2]) eq 'd';
  refuse($path, 22) if kind($s[2]) ne 'r';
  finish(line($path, '', @s)) if $to eq '';
  sysopen my $out, $to, O_WRONLY | O_CREAT | O_EXCL, 0644 or refuse($to);
  $unfinished = $to;
  sysseek $from, $offset, 0;
  my $left = $length || 1 << 62;
  while ($left > 0) {
    my $n = sysread $from, my $data, $left < 1 << 18 ? $left : 1 << 18;
    refuse($path) unless defined $n;
    last unless $n;
    write_all($out, $data) or refuse($to);
    $left -= $n;
  }
  $unfinished = '';
  finish(line($path, '', @s));
}

sub do_write {
  (my ($how, $mode, $make, $offset), $spool, $pieces, my $path) = @_;
  parents(folder($path)) if $make;
  my ($to, $hops) = ($path, 0);
  while (-l $to) {
    refuse($path, 40) if ++$hops > 40;
    my $next = target($to);
    $to = $next =~ m{^/} ? $next : folder($to) . $next;
  }
  my @was = stat $to;
  refuse($path) if !@was && $! != 2;
  refuse($path, kind($was[2]) eq 'd' ? 21 : 22) if @was && kind($was[2]) ne 'r';
  refuse($path, 17) if @was && $how eq 'new';
  my $out;
  if ($how eq 'append' || $how eq 'at') {
    sysopen $out, $to, O_WRONLY | O_CREAT | ($how eq 'append' ? O_APPEND : 0), oct $mode or refuse($path);
    chmod oct $mode, $to unless @was;
    sysseek $out, $offset, 0 if $how eq 'at';
    copy_to($out, undef, $path);
    close $out or refuse($path);
    finish(line($path, '', stat $to));
  }
  my $new = folder($to) . ".sandbar-$$-" . time;
  sysopen $out, $new, O_WRONLY | O_CREAT | O_EXCL, 0600 or refuse($path);
  $unfinished = $new;
  copy_to($out, undef, $path);
  close $out or refuse($path);
  chown @was[4, 5], $new if @was; # where it may be
  chmod @was ? $was[2] & 07777 : oct $mode, $new or refuse($path);
  if ($how eq 'new') { link $new, $to or refuse($path) }
  else { rename $new, $to or refuse($path); $unfinished = '' }
  finish(line($path, '', stat $to));
}

sub do_mkdir {
  my ($mode, $make, $path) = @_;
  parents(folder($path)) if $make;
  if (mkdir $path, 0700) { chmod oct $mode, $path or refuse($path) }
  elsif (!($make && $! == 17 && -d $path)) { refuse($path) }
  finish();
}

sub remove_all {
  my $path = $_[0];
  opendir my $handle, $path or refuse($path);
  for my $name (readdir $handle) {
    next if $name eq '.' || $name eq '..';
    my $below = "$path/$name";
    if (!-l $below && -d _) { remove_all($below) }
    else { unlink $below or $! == 2 or refuse($below) }
  }
  rmdir $path or $! == 2 or refuse($path);
}
sub do_remove {
  my ($deep, $path) = @_;
  if (!lstat $path) { $! == 2 ? finish("absent\n") : refuse($path) }
  if (!-d _) { unlink $path or refuse($path) }
  elsif ($deep) { remove_all($path) }
  else { rmdir $path or refuse($path) }
  finish();
}

sub do_move {
  my ($over, $from, $to) = @_;
  lstat $from or refuse($from);
  refuse($to, 17) if !$over && lstat $to;
  rename $from, $to or refuse($! == 2 ? folder($to) : $to);
  finish();
}

# A tree is a stream of lines as of stat, each followed by the file's content. Kind h
# is one more name of a file that was there before.
my %first;
sub pack_one {
  my ($out, $real, $name) = @_;
  my @s = lstat $real or refuse($real);
  my $kind = kind($s[2]);
  return if $kind eq 'o';
  if ($kind eq 'r') {
    if ($s[3] > 1 && defined $first{"$s[0]:$s[1]"}) {
      my $head = line($name, $first{"$s[0]:$s[1]"}, @s);
      $head =~ s/^file r (\S+ \S+ \S+) \d+/file h $1 0/;
      write_all($out, $head) or refuse($real);
      return;
    }
    $first{"$s[0]:$s[1]"} = $name;
    sysopen my $from, $real, O_RDONLY or refuse($real);
    write_all($out, line($name, '', @s)) or refuse($real);
    for (my $left = $s[7]; $left > 0;) {
      my $n = sysread $from, my $data, $left < 1 << 18 ? $left : 1 << 18;
      refuse($real, $n ? undef : 16) unless $n; # it became shorter
      write_all($out, $data) or refuse($real);
      $left -= $n;
    }
    return;
  }
  $s[7] = 0;
  write_all($out, line($name, $kind eq 'l' ? target($real) : '', @s)) or refuse($real);
  return if $kind eq 'l';
  opendir my $handle, $real or refuse($real);
  for my $below (sort readdir $handle) {
    pack_one($out, "$real/$below", "$name/$below") unless $below eq '.' || $below eq '..';
  }
}
sub do_pack {
  my ($to, @pairs) = @_;
  sysopen my $out, $to, O_WRONLY | O_CREAT | O_EXCL, 0644 or refuse($to);
  $unfinished = $to;
  while (my ($name, $path) = splice @pairs, 0, 2) { pack_one($out, $path, $name) }
  close $out or refuse($to);
  $unfinished = '';
  finish();
}

# Nothing is unpacked through a link: neither one of the archive nor one on the disk.
my %plain_folder = ('.' => 1);
sub way_to {
  my $name = $_[0];
  my @parts = split m{/}, $name;
  pop @parts;
  my $at = '.';
  for my $part (@parts) {
    $at .= "/$part";
    next if $plain_folder{$at};
    if (lstat $at) { refuse($name, -l _ ? 1 : 20) unless -d _ && !-l _ }
    else { mkdir $at, 0755 or refuse($name) }
    $plain_folder{$at} = 1;
  }
}
sub unpack_one {
  my ($owners, $kind, $mode, $uid, $gid, $size, $mtime, $name, $target) = @_;
  way_to($name);
  my $at = "./$name";
  my $there = lstat $at;
  if ($kind eq 'd') {
    unlink $at or refuse($name) if $there && !-d _;
    if (!$there || !-d $at) { mkdir $at, 0755 or refuse($name) }
    chown $uid, $gid, $at or refuse($name) if $owners;
    return [$at, $mode, $mtime]; # when everything is in it
  }
  refuse($name, 21) if $there && -d _;
  if ($kind eq 'h') {
    way_to($target);
    unlink $at or refuse($name) if $there;
    link "./$target", $at or refuse($name);
    return;
  }
  unlink $at or refuse($name) if $there;
  if ($kind eq 'l') {
    symlink $target, $at or refuse($name);
    require POSIX if $owners;
    POSIX::lchown($uid, $gid, $at) or refuse($name) if $owners;
    return;
  }
  sysopen my $out, $at, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600 or refuse($name);
  copy_to($out, $size, $name);
  close $out or refuse($name);
  chown $uid, $gid, $at or refuse($name) if $owners;
  chmod $mode, $at or refuse($name);
  utime $mtime, $mtime, $at or refuse($name);
  return;
}
sub do_unpack {
  (my ($owners, $path), $spool, $pieces) = @_;
  parents($path);
  chdir $path or refuse($path);
  my @folders;
  while (1) {
    my $end;
    while (($end = index $buffer, "\n") < 0) { last unless fill() }
    last if $end < 0;
    my $head = substr $buffer, 0, $end + 1, '';
    chomp $head;
    my ($word, $kind, $mode, $uid, $gid, $size, $mtime, $name, $target) = split / /, $head;
    push @folders, unpack_one($owners, $kind, oct $mode, $uid, $gid, $size, $mtime, plain($name), plain(defined $target ? $target : ''));
  }
  for (reverse @folders) {
    my ($at, $mode, $mtime) = @$_;
    chmod $mode, $at or refuse($at);
    utime $mtime, $mtime, $at or refuse($at);
  }
  finish();
}

sub do_drop { unlink @_; finish() }

my %calls = (
  stat => \&do_stat, list => \&do_list, read => \&do_read, write => \&do_write, mkdir => \&do_mkdir, remove => \&do_remove, move => \&do_move,
  pack => \&do_pack, unpack => \&do_unpack, drop => \&do_drop,
);
my $call = $calls{$what} or refuse($what, 38);
$call->(@args);
