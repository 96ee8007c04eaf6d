// Package userland is the programs of a fake sandbox: the utilities that
// docs/spec/guest.md asks for, written against the system calls of package
// system, and a few of the fake's own.
//
// Each does as POSIX or, where that says nothing, GNU coreutils describe, with
// the options below. An option that is not listed is refused with exit code 2
// and a message, never ignored.
//
//	cat        -n -u
//	chmod      -R; MODE in octal or as [ugoa]*[-+=][rwxXst]*,…
//	cp         -a -f -n -p -r -R -T
//	date       -u -d @SECONDS +FORMAT
//	dd         if= of= bs= ibs= count= skip= seek= conv=notrunc,fsync status=none,noxfer,progress
//	           iflag=fullblock,count_bytes,skip_bytes oflag=append,seek_bytes
//	echo       -n -e -E
//	env        -i -u NAME, NAME=VALUE, COMMAND
//	head       -n N -c N -N
//	hostname   none
//	id         -u -g -G -n
//	kill       -s SIGNAL -SIGNAL -l; PID, 0, -1
//	ln         -f -n -s -T
//	ls         -1 -a -A -d -F -l -n -R -r -S -t; always one name a line
//	mkdir      -m MODE -p
//	mv         -f -n -T
//	od         -A d|o|x|n -b -c -j N -N N -t TYPE -v -w N -x
//	printf     %s %b %c %d %i %u %o %x %X %e %f %g %q %%, with flags, width and precision
//	pwd        -L -P
//	readlink   -e -f -n
//	rm         -d -f -r -R
//	rmdir      -p
//	seq        -s SEPARATOR -w
//	sha256sum  -b -t -c --status --quiet
//	sleep      N[smhd]… or infinity
//	sort       -b -c -f -k F[,F] -n -o FILE -r -s -t C -u
//	stty       -a -g size rows N cols N sane raw cooked and the modes in Modes of stty.go
//	tail       -n N -n +N -c N -c +N -f -N
//	tee        -a -i
//	test, [    the operators of POSIX, -ef -nt -ot, and == < >
//	touch      -c -d @SECONDS|RFC3339 -m -r FILE
//	tr         -c -C -d -s -t; ranges, escapes and classes
//	tty        -s
//	uname      -a -m -n -o -r -s -v
//	wc         -c -l -m -w
//	yes        [STRING]…
//
// The fake's own:
//
//	counter [INTERVAL]        prints 1, 2, 3, … one a line
//	emit OUT ERR [CODE]       prints OUT to stdout and ERR to stderr
//	exit CODE                 ends with CODE
//	listen PORT               prints "listening" and does as sandbar-probe echo
//	sandbar-probe echo PORT   echoes each connection, up to its half-close
//	sandbar-probe send tcp|udp ADDRESS PORT TEXT
//	                          sends TEXT, and by TCP prints the answer; 1 if it cannot
//	sandbar-probe lookup NAME prints the IPv4 addresses of a name; 1 if there are none
//	sandbar-probe run ACK WINDOW FOLDER INPUT PROGRAM [ARGUMENT]…
//	                          runs a command and tells of it in lines of ASCII, as plugins/internal/runner wants it
//	sandbar-probe files WHAT [ARGUMENT]…
//	                          does something to files, as plugins/internal/files wants it
//	sandbar-probe relay PORT ADDRESS…
//	                          carries a connection, as plugins/internal/runner wants it
//	trap                      prints "ready", then each signal it gets; SIGTERM ends it
//	winsize                   prints the terminal's size now and on each change
package userland
