#!/usr/bin/perl
# tallyctl top: on a terminal it shows what goes on, in its size, whoever is stopped, dies or comes
# back; and it leaves the terminal as it was, however it ends.  Without one it shows one page.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Ctl qw(ctl ctl_json go_on is_error stop_all tallyctl);
use IO::Handle;
use POSIX ();
use Tallyd qw(patience slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'there is no script(1) here' unless grep { -x "$_/script" } split /:/, $ENV{PATH};

my $tallyd = Tallyd->start(config => { workers => 2, respawn_backoff => 1, snapshot_every => 0 });
my $data = $tallyd->data_dir;
my @here = ('-d', $data);
my $dir = tempdir(CLEANUP => 1);

# ---- without a terminal

my ($status, $out, $err) = ctl(@here, 'top', '-n', '0.2');
is($status, 0, 'without a terminal it ends');
is($err, '', 'without complaint');
unlike($out, qr/\033/, 'with no escape sequences');
like($out, qr/^tallyd \S+ on \Q$data\E .*\ntakes updates\nevents\/s +0 accepted/, 'one page');
like($out, qr/^PROCESS +PID +STATE +CPU +CONN +WAITING +REQUESTS\/S +EVENTS\/S\njournal writer +\d+  serving +\d+%\nworker 1 +\d+  serving +\d+% +\d+ +\d+ +\d\S* +\d\S*\nworker 2 .*\n\z/m,
	'with everybody');
is((ctl(@here, 'top', '--once', '-n', '0.1'))[0], 0, '--once');

# Events while it looks are in the rates.
sub beside (&) {
	my ($work) = @_;
	my $child = fork;
	if ($child == 0) {
		my $until = time + 20 * patience();
		$tallyd->event('alice', 1) while time < $until;
		POSIX::_exit(0);
	}
	my @result = eval { $work->() };
	my $error = $@;
	kill KILL => $child;
	waitpid $child, 0;
	die $error if $error;
	return @result;
}
my $json;
beside {
	wait_until { $tallyd->balance('alice') };
	($status, $json) = ctl_json(@here, 'top', '-n', '0.5');
};
is($status, 0, 'with --json');
my $rate = $json->{per_second};
cmp_ok($json->{seconds}, '>=', 0.5, 'the time between the looks');
cmp_ok($rate->{events_accepted}, '>', 2, 'events per second');
cmp_ok(abs($rate->{requests} - $rate->{events_accepted}), '<', 10 + $rate->{requests} / 4, 'requests');
cmp_ok($rate->{group_commits}, '>', 2, 'group commits');
cmp_ok(abs($json->{events_per_commit} - 1), '<', 0.5, 'of one event each');
cmp_ok($json->{fdatasync_mean_us}, '>', 0, 'how long an fdatasync takes');
cmp_ok($json->{fdatasync_p99_us}, '>=', $json->{fdatasync_mean_us} / 2, 'and at most');
cmp_ok($json->{latency_p99_us}, '>=', $json->{latency_p50_us}, 'answers');
my $sum = 0;
$sum += $_->{events_per_second} || 0 for @{ $json->{processes} };
cmp_ok(abs($sum - $rate->{events_accepted}), '<', 5 + $sum / 2, 'the workers\' events are all');
is_deeply([map { $_->{name} } @{ $json->{processes} }], ['journal writer', 'worker 1', 'worker 2'], 'everybody is there');

is_deeply($json->{problems}, [], 'there are no problems');
my @writer = map { $_->{pid} } $tallyd->children('journal');
stop_all(@writer);
($status, $json) = ctl_json(@here, 'top', '-n', '0.1');
go_on(@writer);
is($status, 0, 'with --json, while nobody writes the journal');
ok(!$json->{takes_updates}, 'it takes no updates');
is_deeply([map { $_->{reason} } @{ $json->{problems} }], ['journal_writer_stopped'], 'and it is told why, as status does');

# ---- on a terminal: one of the test's own, in which `sh` runs top and then says how it ended

# Starts top with ARGUMENTS in COLUMNS by ROWS.  What it writes is kept in output().
my ($script, $keys, $output);
sub start_top {
	my ($columns, $rows, @arguments) = @_;
	my $command = join ' ', map { "'$_'" } tallyctl(), @here, 'top', '-n', '0.1', @arguments;
	unlink map { "$dir/$_" } qw(before after status pid);
	open my $shell, '>', "$dir/run" or die $!;
	# The pid is top's: exec keeps it.
	print {$shell} "trap : INT\nstty rows $rows cols $columns\nstty -g >'$dir/before'\n",
		"sh -c 'echo \$\$ >$dir/pid; exec \"\$0\" \"\$@\"' $command\n",
		"echo \$? >'$dir/status.new'\nstty -g >'$dir/after'\nmv '$dir/status.new' '$dir/status'\n";
	close $shell;
	pipe my $read, my $write or die $!;
	pipe my $from, my $to or die $!;
	$script = fork;
	if ($script == 0) {
		open STDIN, '<&', $read;
		open STDOUT, '>&', $to;
		close $_ for $write, $from;
		# Whoever runs the tests in the background may have them ignored.
		@SIG{qw(INT QUIT HUP TERM)} = ('DEFAULT') x 4;
		@ENV{qw(TERM LC_ALL)} = ('xterm', 'C.UTF-8');
		delete $ENV{NO_COLOR};
		exec 'script', '-qfec', "sh $dir/run", '/dev/null' or POSIX::_exit(127);
	}
	close $_ for $read, $to;
	$keys = $write;
	$keys->autoflush(1);
	$output = '';
	$from->blocking(0);
	$main::from = $from;
	return;
}
our $from;

sub output {
	while (sysread $from, my $bytes, 65536) { $output .= $bytes }
	return $output;
}

# The lines of the last page that is there as a whole.
sub page {
	my @frames = split /\033\[H/, output();
	return unless @frames > 1;
	pop @frames unless $frames[-1] =~ /\033\[J/;
	my $frame = $frames[-1];
	utf8::decode($frame);
	$frame =~ s/\033\[J.*//s;
	$frame =~ s/\033\[[0-9;?]*[A-Za-z]//g;
	return split /\r*\n/, $frame;
}

# Waits until a page matches PATTERN.
sub shows {
	my ($pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $page = '';
	wait_until { ($page = join "\n", page()) =~ $pattern };
	return like($page, $pattern, $name);
}

sub top_pid { return wait_until { -s "$dir/pid" } && slurp("$dir/pid") =~ /^(\d+)\n/ ? $1 : die 'top does not start' }

# It has ended with STATUS and the terminal is as it was.
sub is_restored {
	my ($wanted, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok((wait_until { output(); -e "$dir/status" }), "$name: it ends") or kill KILL => top_pid();
	is(eval { slurp("$dir/status") } || '', "$wanted\n", "$name: with status $wanted");
	is(slurp("$dir/after"), slurp("$dir/before"), "$name: the terminal's settings are as they were");
	# script(1) may still have to pass on what the terminal has.
	wait_until { rindex(output(), "\033[?25h") > rindex(output(), "\033[?25l") && rindex(output(), "\033[?1049l") > rindex(output(), "\033[?1049h") };
	my $all = output();
	cmp_ok(rindex($all, "\033[?1049l"), '>', rindex($all, "\033[?1049h"), "$name: its screen is back");
	cmp_ok(rindex($all, "\033[?25h"), '>', rindex($all, "\033[?25l"), "$name: so is its cursor");
	close $keys;
	waitpid $script, 0;
	return;
}

start_top(80, 24);
shows(qr/^takes updates$/m, 'on a terminal it shows that the daemon is well');
shows(qr/^worker 2 /m, 'and everybody');
my @page = page();
is(scalar @page, 24, 'as many lines as there are');
is((grep { length > 80 } @page), 0, 'none of them too long');
like($page[-1], qr/^q quit +space look now +every 0\.1 s$/, 'the keys are told');
like(output(), qr/\033\[\?1049h/, 'on a screen of its own');
like(output(), qr/\033\[32mtakes updates/, 'in colour');
beside { shows(qr/^events\/s +[1-9]\S* accepted.*\n +.*[\x{2581}-\x{2588}].*  peak [1-9]/m, 'what goes on, and its course') };

my @workers = map { $_->{pid} } $tallyd->children('worker');
stop_all(@workers);
shows(qr/^TAKES NO UPDATES\n!! all workers are stopped$/m, 'that all workers are stopped');
shows(qr/^worker 1 +\d+  stopped /m, 'and who they are');
go_on(@workers);
shows(qr/^takes updates$/m, 'that they go on');
kill KILL => $workers[0];
shows(qr/^replaced +workers 1,/m, 'that one was replaced');

$tallyd->kill9;
shows(qr/tallyd does not run on this data directory\nwaiting for it/, 'that the daemon is gone');
$tallyd->start_again;
shows(qr/^takes updates$/m, 'that it is back');
shows(qr/^events\/s +0 accepted/m, 'with rates of its own');
is($tallyd->stop, 0, 'stopped');
shows(qr/waiting for it/, 'once more it is waited for');
$tallyd->start_again;
shows(qr/^worker 2 /m, 'and is back');
print {$keys} 'q';
is_restored(0, 'q');

# Sizes.
start_top(120, 40);
shows(qr/^q quit/m, 'on a larger one');
is(scalar(page()), 40, 'all of its lines are used');
my $width = 0;
for (page()) { $width = length if length > $width }
cmp_ok($width, '>', 100, 'and its width');
sub resize {
	my ($columns, $rows) = @_;
	# The terminal is top's: its own descriptor says which.
	my $tty = readlink '/proc/' . top_pid() . '/fd/0';
	system("stty rows $rows cols $columns <'$tty'");
	my ($longest, @lines);
	wait_until {
		@lines = page();
		$longest = 0;
		for (@lines) { $longest = length if length > $longest }
		@lines == $rows && $longest <= $columns;
	};
	is(scalar @lines, $rows, "resized to $rows lines");
	cmp_ok($longest, '<=', $columns, "of $columns columns");
	return;
}
resize(@$_) for [60, 20], [20, 5], [1, 1], [300, 100], [80, 24];
shows(qr/^worker 2 /m, 'whatever came between');
my $before = length output();
print {$keys} ' x';
ok((wait_until { length output() > $before }), 'other keys do nothing bad');

# ^Z and fg.
my $pid = top_pid();
kill TSTP => $pid;
wait_until { slurp("/proc/$pid/stat") =~ /\) T/ };
ok((wait_until { rindex(output(), "\033[?1049l") > rindex(output(), "\033[?1049h") }), 'stopped, it gives the screen back');
$before = length output();
kill CONT => $pid;
ok((wait_until { substr(output(), $before) =~ /\033\[\?1049h.*takes updates/s }), 'and takes it again when it goes on');
print {$keys} 'Q';
is_restored(0, 'Q');

# The load of looking: a tenth of a processor would be much, ten times a second.
start_top(80, 24);
shows(qr/^worker 2 /m, 'to be measured');
sub cpu { my @field = split ' ', slurp('/proc/' . top_pid() . '/stat') =~ s/^.*\) //sr; return ($field[11] + $field[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }
my ($cpu, $at) = (cpu(), time);
my $frames = () = output() =~ /\033\[J/g;
ok((wait_until { (() = output() =~ /\033\[J/g) >= $frames + 20 }), 'twenty more pages');
cmp_ok((cpu() - $cpu) / (time - $at), '<', 0.25, 'take little of a processor');
print {$keys} "\003";
is_restored(130, '^C');

for my $signal (qw(TERM HUP QUIT SEGV ABRT)) {
	start_top(80, 24);
	shows(qr/^worker 2 /m, "running until SIG$signal");
	kill $signal => top_pid();
	my %number;
	@number{qw(TERM HUP QUIT SEGV ABRT)} = (15, 1, 3, 11, 6);
	is_restored(128 + $number{$signal}, "SIG$signal");
}

# ---- where it makes no sense to wait

is($tallyd->stop, 0, 'there is no daemon any more');
is_error([@here, 'top', '--once'], 3, 'not_running', qr/does not run on this data directory/, 'one page of none');
start_top(80, 24);
shows(qr/waiting for it/, 'on a terminal it waits for one');
print {$keys} 'q';
is_restored(0, 'q while it waits');
@here = ('-d', "$data/nowhere");
start_top(80, 24);
ok((wait_until { output(); -e "$dir/status" }), 'nowhere it does not');
is(slurp("$dir/status"), "1\n", 'but fails');
like(output(), qr/nowhere: No such file or directory/, 'and says why');
close $keys;
waitpid $script, 0;

done_testing();
