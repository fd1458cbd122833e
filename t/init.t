# The init script really run: start, status, reload, stop, with start-stop-daemon and without it.
# Root only, as init scripts are.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/lib";
use Tallyd qw(free_port);

use constant DEADLINE => 20 * ($ENV{TALLYD_TEST_PATIENCE} || 1);    # seconds

my $source = $ENV{TALLYD_SRC} || '.';
my $tallyd = $ENV{TALLYD}     || './tallyd';

plan skip_all => 'only root runs init scripts' if $> != 0;
plan skip_all => "there is no $tallyd"         if !-x $tallyd;

my $dir = tempdir('tallyd-init-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
mkdir "$dir/$_" or die "$dir/$_: $!" for qw(etc etc/tallyd etc/default sbin var var/lib run bin data);
chmod 0700, "$dir/data" or die $!;

my %directories = (
	sbindir       => "$dir/sbin",
	sysconfdir    => "$dir/etc",
	localstatedir => "$dir/var",
	runstatedir   => "$dir/run",
);

# A copy: the script looks for a process of the name tallyd, whatever is tested.
system('cp', $tallyd, "$dir/sbin/tallyd") == 0 or die "cannot copy $tallyd";

sub slurp {
	my ($name) = @_;
	open my $file, '<', $name or return '';
	local $/;
	return scalar <$file>;
}

sub spew {
	my ($name, $text) = @_;
	open my $file, '>', $name or die "$name: $!";
	print $file $text;
	close $file or die "$name: $!";
}

# What configure makes of etc/NAME.in.
sub instantiate {
	my ($name) = @_;
	my $text = slurp("$source/etc/$name.in");
	$text =~ s/\@(\w+)\@/$directories{$1} \/\/ die "\@$1\@ in $name"/ge;
	return $text;
}

sub until_true {
	my ($what, $condition) = @_;
	my $deadline = time + DEADLINE;
	while (time < $deadline) {
		return pass($what) if $condition->();
		sleep 0.02;
	}
	return fail($what);
}

sub answers {
	my ($port) = @_;
	return !!IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5);
}

# Runs SCRIPT WORD; its exit status and everything it wrote.
sub run {
	my ($script, $word) = @_;
	my $output = qx{sh '$script' $word 2>&1 </dev/null};
	return ($? >> 8, $output);
}

sub pid {
	my ($pid) = slurp("$dir/run/tallyd.pid") =~ /^(\d+)$/;
	return $pid;
}

sub configure {
	my (@ports) = @_;
	spew("$dir/etc/tallyd/tallyd.conf", join "\n",
		qq{data_directory = "$dir/data"}, qq{pid_file = "$dir/run/tallyd.pid"},
		qq{log = "$dir/log"}, 'workers = 1', 'max_accounts = 1000', 'ring_size = 64K',
		'journal_segment = 1M', (map {qq(listen "127.0.0.1:$_" {})} @ports), '');
}

# One life with SCRIPT.
sub life {
	my ($script, $kind) = @_;
	my ($port, $second) = (free_port(), free_port());
	my ($status, $output);

	configure($port);
	($status, $output) = run($script, 'status');
	is($status, 3, "$kind: status 3, not running") or diag($output);
	($status, $output) = run($script, 'reload');
	is($status, 7, "$kind: reload 7, not running");
	($status, $output) = run($script, 'stop');
	is($status, 0, "$kind: stop of nothing is fine");
	($status, $output) = run($script, 'start');
	is($status, 0, "$kind: start") or diag($output, slurp("$dir/log"));
	ok(answers($port), "$kind: it serves as soon as start returns");
	my $pid = pid();
	ok($pid && kill(0, $pid), "$kind: the pid file has the master's pid");
	($status, $output) = run($script, 'status');
	is($status, 0, "$kind: status 0, running") or diag($output);
	($status, $output) = run($script, 'start');
	is($status, 0, "$kind: a second start is fine");
	is(pid(), $pid, "$kind: and starts nothing");

	configure($port, $second);
	($status, $output) = run($script, 'reload');
	is($status, 0, "$kind: reload") or diag($output);
	until_true("$kind: it listens where the new configuration says", sub { answers($second) });
	is(pid(), $pid, "$kind: the master stays the same");
	spew("$dir/etc/tallyd/tallyd.conf", "workers = 65\n");
	for my $word (qw(reload force-reload restart)) {
		($status, $output) = run($script, $word);
		isnt($status, 0, "$kind: $word with a bad configuration fails");
		like($output, qr/tallyd.conf:1: workers: "65" is out of range/, "$kind: and says why");
		ok(kill(0, $pid) && answers($port), "$kind: and disturbs nothing");
	}

	configure($port);
	($status, $output) = run($script, 'restart');
	is($status, 0, "$kind: restart") or diag($output, slurp("$dir/log"));
	my $next = pid();
	ok($next && $next != $pid && kill(0, $next), "$kind: another master");
	ok(!kill(0, $pid), "$kind: the old one is gone");
	ok(answers($port), "$kind: it serves");

	($status, $output) = run($script, 'stop');
	is($status, 0, "$kind: stop") or diag($output);
	ok(!kill(0, $next), "$kind: the master is gone when stop returns");
	ok(!answers($port), "$kind: nobody listens");
	ok(!-e "$dir/run/tallyd.pid", "$kind: nor is a pid file left");
	($status, $output) = run($script, 'status');
	is($status, 3, "$kind: status 3 again");

	($status, $output) = run($script, 'start');
	is($status, 0, "$kind: start once more");
	$pid = pid();
	kill 'KILL', $pid;
	until_true("$kind: killed", sub { !kill 0, $pid });
	($status, $output) = run($script, 'status');
	is($status, 1, "$kind: status 1, dead with a pid file left") or diag($output);
	($status, $output) = run($script, 'start');
	is($status, 0, "$kind: which does not keep it from starting") or diag($output, slurp("$dir/log"));
	($status, $output) = run($script, 'stop');
	is($status, 0, "$kind: stop") or diag($output);

	spew("$dir/etc/tallyd/tallyd.conf", "workers = 65\n");
	($status, $output) = run($script, 'start');
	is($status, 2, "$kind: start with a bad configuration is the daemon's 2");
	like($output, qr/tallyd.conf:1: workers: "65" is out of range/, "$kind: and says why");
}

my $script = instantiate('tallyd.init');
my $default = instantiate('tallyd.default');
spew("$dir/init", $script);
spew("$dir/etc/default/tallyd", $default);

like($script, qr/^### BEGIN INIT INFO\n(?:# .*\n)+### END INIT INFO$/m, 'an LSB header');
my ($drain) = slurp("$source/etc/tallyd.conf.in") =~ /^drain_timeout = (\d+)$/m;
for my $text ($script, $default) {
	my ($stop_wait) = $text =~ /^STOP_WAIT=(\d+)$/m;
	cmp_ok($stop_wait, '>', $drain, 'stop waits longer than drain_timeout');
}

is((run("$dir/init", 'dance'))[0], 2, 'an unknown word is 2');
is((run("$dir/init", ''))[0],      2, 'so is none');

SKIP: {
	skip 'start-stop-daemon is not installed', 1
		if !grep { -x "$_/start-stop-daemon" } qw(/usr/sbin /sbin);
	life("$dir/init", 'with start-stop-daemon');
}

# The same where only these tools are.
for my $tool (qw(sh sleep cat)) {
	my ($found) = grep { -x } map {"$_/$tool"} qw(/bin /usr/bin);
	symlink $found, "$dir/bin/$tool";
}
(my $bare = $script) =~ s/^PATH=.*$/PATH=$dir\/bin/m;
spew("$dir/init-bare", $bare);
life("$dir/init-bare", 'without start-stop-daemon');

# LSB: 5 not installed; status 4, stop 0.
unlink "$dir/sbin/tallyd";
is((run("$dir/init", 'start'))[0],  5, 'start where it is not installed is 5');
is((run("$dir/init", 'status'))[0], 4, 'status 4');
is((run("$dir/init", 'stop'))[0],   0, 'stop 0');

# Whatever failed, nothing of ours stays.
END {
	my $pid = $dir ? pid() : undef;
	kill 'KILL', $pid if $pid && slurp("/proc/$pid/comm") eq "tallyd\n";
}

done_testing();
