#!/usr/bin/perl
# make deb, and what becomes of the package on a machine: a copy of this one that is gone afterwards,
# with an init script, and with systemd where one can be started in a namespace.

use strict;
use warnings;

use Cwd qw(realpath);
use File::Find ();
use File::Temp qw(tempdir);
use FindBin;
use IO::Socket::INET;
use POSIX ();
use Socket qw(PF_INET SOCK_DGRAM);
use Test::More;
use lib "$FindBin::RealBin/lib";
use Mounts;
use Tallyd qw(build_dir read_response send_all slurp source_dir wait_until);

my ($source, $build) = map { realpath($_) } source_dir(), build_dir();
plan skip_all => "no Makefile in $build" unless -e "$build/Makefile";
# The package is built by flags of its own, as the build without sanitizers tests it.
plan skip_all => 'the package is the same whatever sanitizers are here'
	if slurp("$build/Makefile") =~ /^HARDEN_CFLAGS = .*-fsanitize/m;
# make distcheck takes the right to write from the sources that it tests.
plan skip_all => 'what is packed is tested where it comes from' unless (stat $source)[2] & 0200;
Mounts::enter('--net', '--uts', '--ipc',
	qw(dpkg-buildpackage dh lintian adduser chroot pivot_root nsenter readelf));
Mounts::bury();

# What a make around this test wants is not for those in it.
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL DEB_BUILD_OPTIONS DESTDIR)};
@ENV{qw(LC_ALL DEBIAN_FRONTEND)} = qw(C.UTF-8 noninteractive);

my $top = tempdir('tallyd-package-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $top;

# Runs a command; its exit status and all that it said.
sub said {
	my (@command) = @_;
	my $pid = open my $output, '-|';
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
		exec @command or POSIX::_exit(127);
	}
	local $/;
	my $text = <$output> // '';
	close $output;
	return ($? >> 8, $text);
}

# The command succeeds; returns what it said.
sub works {
	my ($name, @command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $text) = said(@command);
	is($status, 0, $name) or diag($text);
	return $text;
}

sub spew {
	my ($path, $text) = @_;
	open my $file, '>', $path or die "$path: $!";
	print {$file} $text;
	close $file or die "$path: $!";
	return;
}

# ---- making it

# Every file of the sources with its time and size, without what build directories and git keep.
sub sources {
	my %found;
	my $skip = qr{^\Q$source\E/(?:\.git|build[^/]*|var)$};
	File::Find::find({ no_chdir => 1, wanted => sub {
		return $File::Find::prune = 1 if $_ =~ $skip || $_ eq $build && $_ ne $source;
		my ($size, $time) = (lstat)[7, 9];
		$found{$_} = -d _ ? 'directory' : "$size $time";
	} }, $source);
	return \%found;
}

{
	mkdir "$top/bare" or die "$top/bare: $!";
	my ($status, $text) = said('env', "PATH=$top/bare", '/bin/sh', "$source/packaging/build-deb", '--check');
	is($status, 1, 'without dpkg-buildpackage there is no package');
	like($text, qr/^make deb: dpkg-buildpackage is missing; .*apt-get install dpkg-dev/, '... and it says what is missing');
	symlink '/bin/true', "$top/bare/dpkg-buildpackage";
	($status, $text) = said('env', "PATH=$top/bare", '/bin/sh', "$source/packaging/build-deb", '--check');
	like($text, qr/^make deb: dh is missing; .*apt-get install debhelper/, '... nor without debhelper');
}

mkdir "$top/deb" or die "$top/deb: $!";
my $before = sources();
works('make deb', 'env', 'DEB_BUILD_OPTIONS=nocheck', 'make', '-C', $build, 'deb', "DEB_DIRECTORY=$top/deb");
is_deeply(sources(), $before, 'which writes nothing into the sources') unless $source eq $build;
my ($changes) = glob "$top/deb/tallyd_*.changes";
my @debs = glob "$top/deb/tallyd_*.deb";
is(scalar @debs, 1, 'one package') && defined $changes or BAIL_OUT('there is no package to test');
my $deb = $debs[0];
ok(!-e "$top/deb/deb-work", 'and nothing half made');

{
	my ($tarball) = glob "$top/deb/tallyd_*.orig.tar.gz";
	my ($version) = $tarball =~ m{/tallyd_([^/]*)\.orig};
	works('the tarball of the package', 'tar', '-xzf', $tarball, '-C', $top);
	my $changelog = "$top/tallyd-$version/packaging/debian/changelog";
	spew($changelog, slurp($changelog) =~ s/\Q$version\E/0.0.9/r);
	works('... with an old changelog', 'tar', '-czf', "$top/old.tar.gz", '-C', $top, "tallyd-$version");
	my ($status, $text) = said('sh', "$source/packaging/build-deb", "$top/old.tar.gz", $version, "$top/old");
	is($status, 1, '... is refused');
	like($text, qr/changelog is of version 0\.0\.9, configure\.ac of \Q$version\E; add an entry/, '... and says why');
}

# ---- what is in it

my %mode; # by path, without the first slash
for (split /\n/, works('its contents', 'dpkg-deb', '-c', $deb)) {
	my ($mode, $owner, $path) = /^(\S+) (\S+) +\d+ \S+ \S+ \.\/(.*)$/ or die "no line of contents: $_";
	$mode{$path} = "$mode $owner";
}
my @odd = grep {
	my $wanted = m{/$|^$} ? 'drwxr-xr-x' : m{^usr/s?bin/|^etc/init\.d/} ? '-rwxr-xr-x' : '-rw-r--r--';
	$mode{$_} ne "$wanted root/root";
} sort keys %mode;
is("@odd", '', 'all of it is of root, the programs can be run, and nothing can be written to');

works('make install', 'make', '-C', $build, '-s', 'install', "DESTDIR=$top/installed");
my ($prefix) = slurp("$build/Makefile") =~ /^prefix = (.*)$/m;
my @wanted;
File::Find::find({ no_chdir => 1, wanted => sub {
	return unless -f $_ && m{^\Q$top/installed$prefix\E/(?!lib/systemd|etc/|var/|run/)(.*)};
	my $path = "usr/$1";
	push @wanted, $path =~ m{/man/} ? "$path.gz" : $path;
} }, "$top/installed");
cmp_ok(scalar(grep { m{^usr/sbin/} } @wanted), '>=', 2, 'that installs programs');
cmp_ok(scalar(grep { m{/man/} } @wanted), '>=', 5, '... and manual pages');
push @wanted, qw(etc/tallyd/tallyd.conf etc/init.d/tallyd etc/default/tallyd etc/logrotate.d/tallyd
	lib/systemd/system/tallyd.service), map { "usr/share/doc/tallyd/$_" } qw(README.Debian changelog.Debian.gz copyright);
my @has = grep { !m{/$|^$} && !m{^usr/share/lintian/} } keys %mode;
is(join("\n", sort @has), join("\n", sort @wanted), 'and just that is in the package');
is(works('its conffiles', 'dpkg-deb', '-I', $deb, 'conffiles'),
	join('', map { "/etc/$_\n" } qw(default/tallyd init.d/tallyd logrotate.d/tallyd tallyd/tallyd.conf)),
	'are what an administrator may change');

works('unpacked', 'dpkg-deb', '-x', $deb, "$top/unpacked");
for my $program (map { s{^usr/}{}r } grep { m{^usr/s?bin/} } @has) {
	my $elf = works("$program: readelf", 'readelf', '-hdW', '--dyn-syms', "$top/unpacked/usr/$program");
	ok($elf =~ /Type:\s+DYN/ && $elf =~ /BIND_NOW|Flags: NOW/ && $elf =~ /__\w+_chk\b/, "$program: hardened");
}
is(works('lintian', 'lintian', '--no-cfg', '--allow-root', '--profile', 'debian', '--fail-on', 'error,warning', $changes),
	'', 'has nothing to say');

# The package again, with a higher revision.
sub revision {
	my ($number) = @_;
	my $tree = "$top/revision-$number";
	said('dpkg-deb', '-R', $deb, $tree);
	spew("$tree/DEBIAN/control", slurp("$tree/DEBIAN/control") =~ s/^(Version: .*-)\d+$/$1$number/mr);
	works("revision $number", 'dpkg-deb', '-b', $tree, "$top/$number.deb");
	return "$top/$number.deb";
}

# ---- a machine to install it on

sub loopback {
	socket my $socket, PF_INET, SOCK_DGRAM, 0 or die "no socket: $!";
	my $request = pack 'a16 s x22', 'lo', 1; # IFF_UP
	ioctl $socket, 0x8914, $request or die "lo cannot be brought up: $!"; # SIOCSIFFLAGS
	return;
}

my $root; # of the machine

# In the machine: a command, where there is a systemd with its eyes.
my $systemd; # its pid, once there is one
sub in_machine { return $systemd ? ('nsenter', '--all', '-t', $systemd, @_) : ('chroot', $root, @_) }

sub do_works { my ($name, @command) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return works($name, in_machine(@command)) }

sub initd { return said(in_machine('/etc/init.d/tallyd', @_)) }

sub client {
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 7070, Timeout => 5);
}

sub ask {
	my ($method, $path, $body) = @_;
	my $socket = client() or return { status => 0, body => "no connection: $!" };
	$socket->blocking(0);
	$body //= '';
	send_all($socket, "$method $path HTTP/1.1\r\nHost: localhost\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
	return read_response($socket, method => $method);
}

sub healthy { return eval { ask('GET', '/healthz')->{status} == 200 } }

sub balance_is {
	my ($balance, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $answer = ask('GET', '/accounts/alice');
	ok($answer->{status} == 200 && $answer->{json}{balance} == $balance, $name) or diag("$answer->{status} $answer->{body}");
	return;
}

sub add {
	my ($amount, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $answer = ask('POST', '/events', qq({"account":"alice","amount":$amount}));
	is($answer->{status}, 200, $name) or diag($answer->{body});
	return;
}

# The master's pid as the machine knows it.
sub master { return -e "$root/run/tallyd.pid" ? slurp("$root/run/tallyd.pid") =~ s/\s//gr : '' }

# Owner, group and mode of a path in the machine.
sub owned {
	my ($path) = @_;
	my (undef, $text) = said('chroot', $root, 'stat', '-c', '%U:%G %a', $path);
	chomp $text;
	return $text;
}

# The user of every process of the name in this test's namespaces.
sub users_of {
	my ($name) = @_;
	my %users;
	for my $status (glob '/proc/[0-9]*/status') {
		my $text = eval { slurp($status) } // '';
		$users{$1} = 1 if $text =~ /^Name:\t\Q$name\E$/m && $text =~ /^Uid:\t(\d+)\t/m;
	}
	return join ' ', sort keys %users;
}

my $conf;
sub on_machine {
	$conf = "$root/etc/tallyd/tallyd.conf";
	# Whatever this machine has of tallyd, the copy has not.
	said('chroot', $root, 'dpkg', '--force-all', '--purge', 'tallyd');
	said('chroot', $root, 'userdel', 'tallyd');
	said('chroot', $root, 'sh', '-c', 'rm -rf /etc/tallyd /var/lib/tallyd /var/log/tallyd /etc/init.d/tallyd');
	spew("$root/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 0\n");
	chmod 0755, "$root/usr/sbin/policy-rc.d";
	said('cp', $deb, "$root/var/cache/tallyd-1.deb");
	said('cp', revision($_), "$root/var/cache/tallyd-$_.deb") for 2 .. 5;

	install();
	upgrade();
	upgrade_with_bad_configuration();
	remove();
	unit();
	under_systemd();
	purge();
	return;
}

sub install {
	do_works('dpkg -i', 'dpkg', '-i', '/var/cache/tallyd-1.deb');
	my (undef, $user) = said('chroot', $root, 'getent', 'passwd', 'tallyd');
	like($user, qr{^tallyd:x:[1-9]\d?\d?:\d+:[^:]*:/var/lib/tallyd:/usr/sbin/nologin$}, 'makes a system user');
	my ($uid) = $user =~ /:(\d+):/;
	is(owned('/var/lib/tallyd'), 'tallyd:tallyd 750', 'whose the balances are');
	is(owned('/var/log/tallyd'), 'tallyd:adm 2750', '... and the logs');
	ok(healthy(), 'it serves as soon as it is installed');
	is(users_of('tallyd-worker'), $uid, 'the workers are that user');
	is(users_of('tallyd-journal'), $uid, 'so is the journal writer');
	is((initd('status'))[0], 0, 'the init script knows it');
	ok(scalar(() = glob "$root/etc/rc[2-5].d/S*tallyd") == 4, 'it is started at boot');
	add(100, 'an event');
	do_works('the journal can be checked', 'tallyctl', 'journal', 'check');
	return;
}

# A client that adds one after the other, each until it is answered, until the file STOP is there; then
# how many it added is in it.
sub begin_load {
	my ($stop) = @_;
	my $parent = $$;
	my $pid = fork // die "cannot fork: $!";
	return $pid if $pid;
	my $added = 0;
	while (!-e $stop && getppid == $parent) {
		my $id = 'load-' . ($added + 1);
		my $answer = eval { ask('POST', '/events', qq({"account":"load","amount":1,"id":"$id"})) };
		if ($answer && $answer->{status} == 200) { $added++ } else { select undef, undef, undef, 0.01 }
	}
	spew("$stop.added", $added);
	POSIX::_exit(0);
}

sub end_load {
	my ($pid, $stop, $name) = @_;
	my $before = eval { ask('GET', '/accounts/load')->{json}{balance} } // 0;
	ok(wait_until(sub { (eval { ask('GET', '/accounts/load')->{json}{balance} } // 0) > $before }, 20), "$name: the new daemon takes events");
	spew($stop, '');
	waitpid $pid, 0;
	my $added = slurp("$stop.added");
	my $answer = ask('GET', '/accounts/load');
	is($answer->{json}{balance}, $added, "$name: each of $added events counted once");
	return;
}

sub upgrade {
	spew($conf, slurp($conf) . "# mine\n");
	my $old = master();
	my $load = begin_load("$top/stop-load");
	ok(wait_until(sub { (eval { ask('GET', '/accounts/load')->{json}{balance} } // 0) > 20 }, 20), 'under load');
	# A client that has begun, and goes on when the old daemon takes no new ones.
	my $body = '{"account":"alice","amount":7}';
	my $socket = client();
	$socket->blocking(0);
	my $wanted = length $body;
	send_all($socket, "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: $wanted\r\n\r\n" . substr $body, 0, 9);
	my $pid = fork // die "cannot fork: $!";
	if ($pid == 0) {
		open STDOUT, '>', "$top/upgrade";
		open STDERR, '>&', \*STDOUT;
		exec in_machine('dpkg', '-i', '/var/cache/tallyd-2.deb') or POSIX::_exit(127);
	}
	ok(wait_until(sub { !client() }, 20), 'an upgrade stops the old daemon from taking connections');
	ok(kill(0, $old), '... which waits for a client that has begun');
	send_all($socket, substr $body, 9);
	my $answer = eval { read_response($socket, method => 'POST') } // { status => 0, body => $@ };
	is($answer->{status}, 200, '... and answers it') or diag($answer->{body});
	waitpid $pid, 0;
	is($?, 0, 'the upgrade succeeds') or diag(slurp("$top/upgrade"));
	like(do_works('the version', 'dpkg-query', '-W', '-f', '${Version}', 'tallyd'), qr/-2$/, 'is the new one');
	ok(healthy() && master() != $old, 'another master serves');
	end_load($load, "$top/stop-load", 'upgraded');
	balance_is(107, 'with all that was acknowledged');
	like(slurp($conf), qr/^# mine$/m, 'the configuration is left as the administrator made it');
	return;
}

# As it is with an init script, and with systemd, which would stop first.
sub upgrade_with_bad_configuration {
	my ($revision) = $systemd ? 4 : 3;
	my $how = $systemd ? 'systemd' : 'init';
	my ($good, $old) = (slurp($conf), master());
	spew($conf, "workers = 65\n");
	my ($status, $text) = said(in_machine('dpkg', '-i', "/var/cache/tallyd-$revision.deb"));
	isnt($status, 0, "$how: an upgrade with a bad configuration fails");
	like($text, qr/tallyd\.conf:1: workers: "65" is out of range/, '... says why');
	ok(healthy() && master() == $old, '... and leaves the daemon that serves');
	spew($conf, $good);
	do_works('once that is mended it goes on', 'dpkg', '--configure', 'tallyd');
	ok(wait_until(\&healthy, 20) && master() != $old, '... with the new daemon');
	balance_is($systemd ? 112 : 107, '... and the balances');
	return;
}

sub nothing_runs {
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!client() && users_of('tallyd') eq '' && users_of('tallyd-worker') eq '', "$name: nothing runs");
	is(join(' ', glob "$root/dev/shm/tallyd*"), '', "$name: no memory is left");
	ok(!-e "$root/run/tallyd.pid", "$name: nor a pid file");
	return;
}

sub remove {
	do_works('dpkg -r', 'dpkg', '-r', 'tallyd');
	nothing_runs('removed');
	ok(!-e "$root/usr/sbin/tallyd" && !-e "$root/usr/share/doc/tallyd", 'removed: no program is left');
	ok(-e $conf && -d "$root/var/lib/tallyd/journal", 'removed: configuration and balances are');
	do_works('installed again', 'dpkg', '-i', '/var/cache/tallyd-3.deb');
	ok(healthy(), '... it serves');
	balance_is(107, '... the same balances');
	is((initd('stop'))[0], 0, 'stop');
	nothing_runs('stopped');
	return;
}

# ---- systemd

sub unit {
	my $unit = '/lib/systemd/system/tallyd.service';
	my $analyze = 'systemd-analyze';
	SKIP: {
		skip 'systemd is not installed', 1 unless Mounts::have($analyze);
		is(do_works('the unit', $analyze, 'verify', $unit), '', 'systemd finds no fault with it');
		my (undef, $text) = said(in_machine($analyze, 'security', '--offline=true', '--no-pager', $unit));
		note($1) if $text =~ /(Overall exposure.*)/;
	}
	return;
}

my $cgroup;

sub child_of {
	my ($parent) = @_;
	for my $status (glob '/proc/[0-9]*/status') {
		my $text = eval { slurp($status) } // '';
		next unless $text =~ /^PPid:\t\Q$parent\E$/m;
		return $1 if $status =~ m{/(\d+)/};
	}
	return;
}

# Starts systemd as the machine's first process, in a cgroup below ours; its pid here, or undef and why.
sub boot {
	return (undef, 'systemd is not installed') unless -x "$root/lib/systemd/systemd";
	my ($hierarchy) = slurp('/proc/self/mountinfo') =~ m{ (/\S+) \S+(?: \S+)* - cgroup2 }m;
	return (undef, 'there is no cgroup2') unless defined $hierarchy;
	my ($own) = slurp('/proc/self/cgroup') =~ m{^0::(/.*)$}m;
	($cgroup = "$hierarchy$own/tallyd-test-" . int rand 1e9) =~ s{/+}{/}g;
	mkdir $cgroup or return (undef, "$cgroup cannot be made: $!");

	# None of the services of a whole machine: they would tune the one kernel that there is.
	for my $wants (map { glob "$root$_/*.target.wants/*" } '/etc/systemd/system', '/lib/systemd/system', '/usr/lib/systemd/system') {
		unlink $wants unless $wants =~ m{/tallyd\.service$};
	}
	spew("$top/boot", <<"SCRIPT");
set -e
echo \$\$ >'$cgroup/cgroup.procs'
exec unshare --mount --propagation private --cgroup --pid --fork --kill-child sh -c '
	set -e
	cd "$root"
	mount -t proc proc proc
	mount --bind proc/sys proc/sys
	mount -o remount,bind,ro proc/sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	pivot_root . tmp
	umount -l /tmp
	mount --make-rshared /
	mount -t tmpfs -o mode=1777 tmpfs /tmp
	touch /run/pivoted
	container=other exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=null
'
SCRIPT
	my $pid = fork // die "cannot fork: $!";
	if ($pid == 0) {
		open STDOUT, '>', "$top/systemd";
		open STDERR, '>&', \*STDOUT;
		exec 'sh', "$top/boot" or POSIX::_exit(127);
	}
	my $up = wait_until {
		$systemd ||= child_of($pid);
		waitpid($pid, POSIX::WNOHANG()) ? 'gone'
			: $systemd && (said(in_machine('systemctl', 'is-system-running')))[1] =~ /^(?:running|degraded)$/m ? 'up' : undef;
	} 20;
	return $systemd if $up && $up eq 'up';
	my $why = slurp("$top/systemd") || 'it did not come up';
	kill 'KILL', $pid;
	$systemd = undef;
	return (undef, $why);
}

sub shut_down {
	return unless defined $cgroup;
	kill 'KILL', $systemd if $systemd;
	$systemd = undef;
	wait_until { slurp("$cgroup/cgroup.events") =~ /^populated 0$/m } 10;
	File::Find::finddepth({ no_chdir => 1, wanted => sub { rmdir $_ if -d $_ } }, $cgroup);
	ok(!-e $cgroup, 'its cgroup is gone');
	# By this directory Debian's scripts know whether systemd runs.
	said('rm', '-rf', "$root/run/systemd");
	$cgroup = undef;
	return;
}

# Before the directory is removed: nothing of this machine may be seen below it any more.
END {
	local $?;
	shut_down() if defined $cgroup;
	said('umount', '--recursive', '--lazy', "$top/machine") if defined $root;
}

sub systemctl { return (said(in_machine('systemctl', @_)))[0] }

sub under_systemd {
	SKIP: {
		my ($pid, $reason) = boot();
		shut_down() unless $pid;
		skip "no systemd can be started here: $reason", 1 unless $pid;
		ok(wait_until(\&healthy, 20), 'systemd: it serves after the boot') or diag((said(in_machine('systemctl', 'status', '-l', 'tallyd')))[1]);
		balance_is(107, 'systemd: the same balances');
		my $old = master();
		is(systemctl('is-active', '--quiet', 'tallyd'), 0, 'systemd: it is active');
		is(systemctl('reload', 'tallyd'), 0, 'systemd: reload');
		ok(wait_until(\&healthy, 20) && master() == $old, 'systemd: the same master serves');
		add(5, 'systemd: an event');
		said(in_machine('kill', '-KILL', $old));
		ok(wait_until(sub { my $new = master(); $new && $new ne $old && healthy() }, 20), 'systemd: one that was killed is replaced');
		balance_is(112, 'systemd: nothing is lost');
		is((initd('status'))[0], 0, 'systemd: the init script knows it');
		upgrade_with_bad_configuration();
		$old = master();
		do_works('systemd: an upgrade', 'dpkg', '-i', '/var/cache/tallyd-5.deb');
		ok(wait_until(\&healthy, 20) && master() != $old, 'systemd: another master serves');
		balance_is(112, 'systemd: with the balances');
		do_works('systemd: dpkg -r', 'dpkg', '-r', 'tallyd');
		nothing_runs('systemd: removed');
		shut_down();
	}
	return;
}

# ---- the end

sub purge {
	my $text = do_works('dpkg --purge', 'dpkg', '--purge', 'tallyd');
	nothing_runs('purged');
	my @left = grep { -e "$root$_" || -l "$root$_" } qw(/etc/tallyd /etc/default/tallyd /etc/init.d/tallyd
		/etc/logrotate.d/tallyd /var/log/tallyd /lib/systemd/system/tallyd.service
		/etc/systemd/system/multi-user.target.wants/tallyd.service);
	is("@left", '', 'purged: configuration and logs are gone');
	is(join(' ', glob "$root/etc/rc?.d/*tallyd"), '', 'purged: nothing is started at boot');
	like($text, qr{balances are kept in /var/lib/tallyd}, 'purged: it says that the balances are kept');
	is(owned('/var/lib/tallyd'), 'tallyd:tallyd 750', '... as they are, of the user that is kept');
	do_works('installed after that', 'dpkg', '-i', '/var/cache/tallyd-1.deb');
	my $answer = ask('GET', '/accounts/alice');
	cmp_ok($answer->{json}{balance} // 0, '>=', 107, '... it has the balances');
	do_works('purged again', 'dpkg', '--purge', 'tallyd');
	# Who does delete them leaves an empty directory, which goes with the package.
	said('sh', '-c', "rm -rf '$root'/var/lib/tallyd/*");
	do_works('installed, with no balances', 'dpkg', '--unpack', '/var/cache/tallyd-1.deb');
	do_works('purged without any', 'dpkg', '--purge', 'tallyd');
	ok(!-e "$root/var/lib/tallyd", '... the empty directory is gone, too');
	return;
}

loopback();
mkdir "$top/machine" or die "$top/machine: $!";
($root, my $why) = Mounts::machine("$top/machine");
SKIP: {
	skip "no copy of this machine is to be had: $why", 1 unless defined $root;
	on_machine();
}
done_testing;
