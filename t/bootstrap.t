#!/usr/bin/perl
# ./bootstrap in a made-up checkout on a made-up machine: packages that are there, can be installed,
# or cannot.  What it builds is .ci/run's to show.

use strict;
use warnings;

use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use FindBin;
use Test::More;

my $source = $ENV{TALLYD_SRC} || "$FindBin::RealBin/..";
my $top = tempdir(CLEANUP => 1);
my $house = "$top/a house";
my $bin = "$top/bin";

sub script {
	my ($path, $text) = @_;
	open my $file, '>', $path or die "cannot write $path: $!";
	print {$file} "#!/bin/sh\n$text";
	close $file or die "cannot write $path: $!";
	chmod 0755, $path or die "cannot chmod $path: $!";
	return;
}

sub spew {
	my ($path, $text) = @_;
	open my $file, '>', $path or die "cannot write $path: $!";
	print {$file} $text;
	close $file or die "cannot write $path: $!";
	return;
}

sub contents {
	my ($path) = @_;
	open my $file, '<', $path or return '';
	local $/;
	return scalar <$file>;
}

make_path("$house/build", "$house/build-check", $bin, "$top/elsewhere", "$top/packages");
copy("$source/bootstrap", "$house/bootstrap") or die "cannot copy bootstrap: $!";
chmod 0755, "$house/bootstrap";
script("$house/configure", 'exit 1');
script("$house/Makefile.in", '');
for ('build', 'build-check') {
	open my $file, '>', "$house/$_/Makefile" or die "cannot write a Makefile: $!";
	print {$file} "all:\n\t\@echo made\n\nprove:\n\t\@echo 'Result: PASS'\n";
}
script("$house/build/tallyd", 'printf "%s\n" "$0" "$@"');

# The machine: a package is installed if a file of its name is in $top/packages.
script("$bin/dpkg-query", qq([ -e "$top/packages/\$3" ] && printf installed\n));
script("$bin/curl", 'exit 1');
sub machine {
	my (%is) = @_;
	unlink "$top/apt.log";
	script("$bin/id", "echo $is{uid}\n");
	script("$bin/apt-get", qq(echo "\$@" >>"$top/apt.log"\n) . $is{apt});
	$is{sudo} ? script("$bin/sudo", qq(echo sudo >>"$top/apt.log"\nexec "\$@"\n)) : unlink "$bin/sudo";
	return;
}

my $install = <<"SCRIPT";
for package in "\$@"; do
	case \$package in
	-* | install | update) ;;
	*) : >"$top/packages/\$package" ;;
	esac
done
SCRIPT

# Runs bootstrap from another directory; returns its exit status, stdout and stderr.
sub bootstrap {
	my (@arguments) = @_;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		# Only what the made-up machine has, besides the tools of every Debian.
		mkdir "$top/tools";
		for my $tool (qw(sh env cat chmod mkdir mv dirname make getconf sleep printf rm grep echo awk sed)) {
			my ($path) = grep { -x } map { "$_/$tool" } qw(/usr/local/bin /usr/bin /bin);
			symlink $path, "$top/tools/$tool" if $path;
		}
		$ENV{PATH} = "$bin:$top/tools";
		delete @ENV{qw(MAKEFLAGS MAKELEVEL CONFIGURE_FLAGS)};
		chdir "$top/elsewhere" or die "cannot chdir: $!";
		open STDOUT, '>', "$top/out" or die;
		open STDERR, '>', "$top/err" or die;
		exec "$house/bootstrap", @arguments or die "cannot exec: $!";
	}
	waitpid $pid, 0;
	return ($? >> 8, contents("$top/out"), contents("$top/err"));
}

SKIP: {
	skip 'shellcheck is not installed', 1 unless grep { -x "$_/shellcheck" } split /:/, $ENV{PATH};
	is(`shellcheck '$source/bootstrap' '$source/t/run-one' '$source/packaging/build-deb' 2>&1`, '', 'shellcheck has nothing to say');
}

my ($status, $out, $err) = bootstrap('help');
is($status, 0, 'help');
like($out, qr/^usage: .*\brun\b.*\bcheck\b.*\bbench\b.*\bdeb\b/s, '... tells the verbs');
($status, $out, $err) = bootstrap('nonsense');
is($status, 2, 'an unknown verb is refused');
like($err, qr/^usage:/, '... with the usage on stderr');

machine(uid => 0, apt => "exit 100\n");
($status, $out, $err) = bootstrap('run');
is($status, 1, 'packages that cannot be installed end it');
like($err, qr/could not be installed: .*libev-dev libjsmn-dev libxxhash-dev libconfuse-dev/,
	'... and are named');
like(contents("$top/apt.log"), qr/install.*\n.*update\n\z/, '... after a look for fresh package lists');
is($out, '', '... and nothing was started');

machine(uid => 1000, apt => $install);
($status, $out, $err) = bootstrap('run');
is($status, 1, 'neither root nor sudo ends it');
like($err, qr/as root: apt-get install .*libev-dev/, '... with what to do');
is(contents("$top/apt.log"), '', '... and apt-get was not tried');

machine(uid => 0, apt => qq(grep -q update "$top/apt.log" || exit 100\n$install));
unlink glob "$top/packages/*";
($status, $out, $err) = bootstrap('run');
is($status, 0, 'installed after an update') or diag $err;

unlink "$top/packages/libev-dev", "$top/packages/curl";
machine(uid => 1000, sudo => 1, apt => $install);
($status, $out, $err) = bootstrap('run');
is($status, 0, 'run with sudo');
like(contents("$top/apt.log"), qr/^sudo\n.*install libev-dev curl\n\z/, '... installs what is missing, only');
is($out, "$house/build/tallyd\n-f\n-c\n$house/var/tallyd.conf\n", '... becomes the daemon');
my $configuration = contents("$house/var/tallyd.conf");
like($configuration, qr/^listen "127\.0\.0\.1:7070" \{\n\tprotocol = "http"\n\}\n/m, '... on port 7070');
like($configuration, qr/^data_directory = "\Q$house\E\/var"\n/m, '... with its data in var/');
is((stat "$house/var")[2] & 0777, 0700, '... which is nobody else\'s to read');

machine(uid => 1000, apt => "exit 100\n");
script("$house/var/tallyd.conf", "mine\n");
($status, $out, $err) = bootstrap('run');
is($status, 0, 'run again, with everything there');
is(contents("$top/apt.log"), '', '... installs nothing');
like(contents("$house/var/tallyd.conf"), qr/mine/, '... and leaves the configuration alone');

# What is tried is the address that the configuration names by now.
script("$bin/curl", qq(echo "\$*" >>"$top/curl.log"\n));
script("$house/var/tallyd.conf", <<'CONFIGURATION');
listen "unix:/nowhere" {
}
listen "127.0.0.1:6379" { protocol = "redis" }
listen "127.0.0.1:7" {
	# protocol = "http"
	protocol = echo
}
listen "127.0.0.1:8080" {
	protocol = "http"
	proxy_from = "127.0.0.1"
}
listen "*:7171" { # protocol = "redis"
	proxy_from = ""
}
listen "[::1]:7272" {
}
CONFIGURATION
my $daemon = contents("$house/build/tallyd");
script("$house/build/tallyd", <<"SCRIPT");
echo \$\$ >"$house/var/tallyd.pid"
i=0
while [ ! -s "$top/curl.log" ] && [ \$i -lt 300 ]; do
	sleep 0.1
	i=\$((i + 1))
done
SCRIPT
($status, $out, $err) = bootstrap('run');
like(contents("$top/curl.log"), qr{http://127\.0\.0\.1:7171/healthz}, 'the first address of the configuration with HTTP for everybody is announced');
script("$bin/curl", 'exit 1');
unlink "$house/var/tallyd.pid";
$daemon =~ s/^#!.*\n//;
script("$house/build/tallyd", $daemon);

machine(uid => 0, apt => $install);
($status, $out, $err) = bootstrap('check');
is($status, 0, 'check');
like($out, qr/Result: PASS\n\z/, '... ends on the verdict');
like(contents("$top/apt.log"), qr/install.*\bstrace\b/, '... and installs what the tests need');

# Only made, not built: the package is built from what make dist packs.
spew("$house/build/Makefile", "all:\n\t\@echo built; exit 1\n\ndeb:\n\t\@echo ./tallyd_1-1_all.deb\n");
unlink "$top/packages/debhelper";
machine(uid => 0, apt => $install);
($status, $out, $err) = bootstrap('deb');
is($status, 0, 'deb') or diag $err;
is($out, "./tallyd_1-1_all.deb\n", '... says which package it made');
like(contents("$top/apt.log"), qr/install debhelper\n\z/, '... and installs what that needs');

open my $makefile, '>', "$house/build-check/Makefile" or die "cannot write a Makefile: $!";
print {$makefile} "all:\n\nprove:\n\t\@echo 'Result: FAIL'; exit 1\n";
close $makefile;
($status, $out, $err) = bootstrap('check');
isnt($status, 0, 'check fails if a test fails');

SKIP: {
	skip 'not a git checkout', 1 unless -e "$source/.git" && system('git --version >/dev/null 2>&1') == 0;
	# make dist of a fresh clone needs them, although they have no suffix.
	is(`git -C '$source' check-ignore t/bench t/run-one`, '', 'git does not ignore the scripts of t/');
}

done_testing();
