#!/usr/bin/perl
# tallyctl backup: a data directory as it was at one moment, made while money moves; what has its name is
# good, whatever became of the command.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Ctl qw(ctl ctl_json is_error is_number tallyctl);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use Mounts;
use Tallyd qw(slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	ACCOUNTS => 8,
	START    => 1000,
	TELLERS  => 2,
	BACKUPS  => 6,
	KILLS    => 15,
};

Mounts::enter();

my $dir = tempdir(CLEANUP => 1);
my %CONFIG = (workers => 2, snapshot_every => '64K', journal_segment => '256K', journal_keep => '256K', respawn_backoff => 0, id_window => 1);
my $tallyd = use_daemon(Tallyd->start(config => {%CONFIG}));
my @data = ('-d', $tallyd->data_dir);

sub sum_of {
	my ($daemon) = @_;
	my $sum = 0;
	$sum += $daemon->balance("bank-$_") // 0 for 1 .. ACCOUNTS;
	return $sum;
}

# A daemon on a copy of BACKUP has all the money, and its journal is sound.
sub is_good {
	my ($backup, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is((ctl('-d', $backup, 'journal', 'check'))[0], 0, "$name: its journal is sound");
	my $lines = (ctl('-d', $backup, 'export', '--accounts'))[1];
	my $restored = Tallyd->start(config => {%CONFIG}, data_dir => $backup);
	is(sum_of($restored), ACCOUNTS * START, "$name: all of the money is there");
	# The next segment may have to be made first.
	ok((wait_until { $restored->event('bank-1', 1)->{status} == 200 }), "$name: and it goes on");
	is($restored->stop, 0, "$name: it stops");
	my ($balance) = $lines =~ /"account":"bank-1","balance":(-?\d+)/;
	like((ctl('-d', $backup, 'export', '--accounts'))[1], qr/"account":"bank-1","balance":@{[$balance + 1]},/, "$name: from where it was");
	return;
}

$tallyd->call('POST', '/events', { account => "bank-$_", amount => START }) for 1 .. ACCOUNTS;

sub begin_load {
	my $parent = $$;
	return map {
		my $pid = fork;
		die "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			my $connection = $tallyd->connection;
			while (getppid == $parent) {
				my ($from, $to) = map { 1 + int rand ACCOUNTS } 1 .. 2;
				next if $from == $to;
				eval { $tallyd->call('POST', '/transfers', { from => "bank-$from", to => "bank-$to", amount => 1, note => 'x' x 200 }, undef, connection => $connection); 1 } or POSIX::_exit(0);
			}
			POSIX::_exit(0);
		}
		$pid;
	} 1 .. TELLERS;
}

sub end_load { kill KILL => @_; waitpid $_, 0 for @_; return }

sub first_lsn { return (sort glob $tallyd->data_dir . '/journal/*.journal')[0] }

# Snapshots are taken and segments pruned all the time meanwhile.
sub test_running {
	my @load = begin_load();
	my $first = first_lsn();
	# What a start reads begins at a seal, and there is one every few MiB.
	my $bulk = join '', map { qq({"account":"filler","amount":1,"note":"@{['y' x 200]}"}\n) } 1 .. 2000;
	ok((wait_until { $tallyd->request('POST', '/events', ['Content-Type' => 'application/x-ndjson'], $bulk, deadline => 30); first_lsn() ne $first } 30), 'the journal is pruned meanwhile');
	my %lsn;
	for my $number (1 .. BACKUPS) {
		my ($status, $json, $err) = ctl_json(@data, 'backup', "$dir/b$number");
		is($status, 0, 'a backup while money moves') or diag($err);
		is_deeply([@{$json}{qw(status directory)}], ['done', "$dir/b$number"], '... is told');
		is_number($json, 'lsn');
		$lsn{ $json->{lsn} } = 1;
		is((ctl('-d', "$dir/b$number", 'journal', 'check'))[1] =~ / to (\d+)/ ? $1 : '', $json->{lsn}, '... up to where it says');
	}
	cmp_ok(scalar keys %lsn, '==', BACKUPS, 'each of another moment');
	end_load(@load);
	is_good("$dir/b1", 'the first');
	is_good("$dir/b@{[BACKUPS]}", 'the last');
	is(join(' ', sort map { s{.*/}{}r } glob "$dir/b2/*"), 'journal snapshots', 'it has what a data directory has');
	is(scalar(grep { (stat)[2] & 077 } "$dir/b2", glob("$dir/b2/*"), glob("$dir/b2/*/*")), 0, 'nobody else may read any of it');
	my $blocks = 0;
	$blocks += (stat)[12] * 512 for glob "$dir/b2/journal/*";
	my $bytes = 0;
	$bytes += -s for glob "$dir/b2/journal/*";
	cmp_ok($blocks, '>=', $bytes, 'its segments have their blocks');
	return;
}

sub test_stopped {
	is(sum_of($tallyd), ACCOUNTS * START, 'nothing was lost');
	$tallyd->kill9;
	my $said = (ctl(@data, 'export'))[1];
	my ($status, $out, $err) = ctl(@data, 'backup', "$dir/killed/");
	is($status, 0, 'a backup of one that was killed') or diag($err);
	like($out, qr{^\Q$dir\E/killed/: up to position \d+: .* in \d+ segments$}, '... is told to people');
	is((ctl('-d', "$dir/killed", 'export'))[1], $said, 'it says the same');
	is((ctl(@data, 'export'))[1], $said, 'and what it was made of still does');
	mkdir "$dir/empty" or die $!;
	is((ctl(@data, 'backup', "$dir/empty"))[0], 0, 'into an empty directory');
	is((ctl('-d', "$dir/empty", 'export'))[1], $said, '... is as good');
	is_good("$dir/killed", 'that of one that was killed');
	$tallyd->start_again;
	use_daemon($tallyd);
	return;
}

sub test_refused {
	is_error([@data, 'backup', "$dir/b1"], 1, 'failed', qr/is there already/, 'one that is there');
	open my $file, '>', "$dir/file" or die $!;
	close $file;
	is_error([@data, 'backup', "$dir/file"], 1, 'failed', qr/is there already/, 'a file');
	is_error([@data, 'backup', "$dir/no/where"], 1, 'failed', qr/No such file/, 'no folder');
	is_error(['-d', "$dir/nowhere", 'backup', "$dir/x"], 1, 'failed', qr/nowhere/, 'of nothing');
	ok(!-e "$dir/x" && !-e "$dir/x.unfinished", '... nothing is made');
	mkdir "$dir/other";
	mkdir "$dir/other/journal";
	open $file, '>', "$dir/other/journal/mine" or die $!;
	close $file;
	symlink "$dir/other", "$dir/l.unfinished" or die $!;
	is_error([@data, 'backup', "$dir/l"], 1, 'failed', qr/l\.unfinished/, 'a link in the way');
	ok(-e "$dir/other/journal/mine", '... what it leads to stays');
	mkdir "$dir/d.unfinished";
	mkdir "$dir/d.unfinished/journal";
	open $file, '>', "$dir/d.unfinished/$_" or die $! for qw(lock journal/mine);
	close $file;
	is_error([@data, 'backup', "$dir/d"], 1, 'failed', qr/in the way/, 'a data directory in the way');
	ok(-e "$dir/d.unfinished/journal/mine", '... stays');
	mkdir "$dir/small" or die $!;
	Mounts::tmpfs("$dir/small", '128k');
	is_error([@data, 'backup', "$dir/small/b"], 1, 'failed', qr/No space left.*no backup was made/, 'no room');
	is(join(' ', glob "$dir/small/*"), '', '... nothing is left');
	return;
}

sub segments { return sort glob "$_[0]/journal/*.journal" }

# What is not sound becomes no backup.
sub test_damaged {
	is((ctl(@data, 'backup', "$dir/damaged"))[0], 0, 'a backup');
	my ($last) = reverse segments("$dir/damaged");
	my $bytes = slurp($last);
	my $end = length $bytes =~ s/\0+\z//r;
	open my $file, '+<', $last or die $!;
	seek $file, $end / 2, 0;
	print {$file} 'damage';
	close $file or die $!;
	is((ctl('-d', "$dir/damaged", 'journal', 'check'))[0], 1, 'that is damaged');
	is_error(['-d', "$dir/damaged", 'backup', "$dir/of-damage"], 1, 'failed', qr/tallyctl journal/, 'it has none');
	ok(!-e "$dir/of-damage" && !-e "$dir/of-damage.unfinished", '... and nothing is made');
	return;
}

# Killed at any moment: nothing has the name, or it is whole.
sub test_killed {
	my ($made, $left) = (0, 0);
	for my $number (1 .. KILLS) {
		my $name = "$dir/k";
		my $leftover = -e "$name.unfinished";
		my $pid = fork;
		die "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			open STDOUT, '>', '/dev/null';
			exec tallyctl(), @data, 'backup', $name or POSIX::_exit(127);
		}
		sleep 0.002 * $number;
		my $signal = $number % 3 == 0 ? 'TERM' : 'KILL';
		kill $signal => $pid;
		waitpid $pid, 0;
		$left++ if -e "$name.unfinished";
		# One that ends before it has begun leaves what was there.
		ok(!-e "$name.unfinished", 'who is asked to end clears up') if $signal eq 'TERM' && !$leftover;
		next unless -e $name;
		$made++;
		is((ctl('-d', $name, 'journal', 'check'))[0], 0, 'what has the name is whole');
		remove_tree($name);
	}
	note("$made made, $left left");
	is((ctl(@data, 'backup', "$dir/k"))[0], 0, 'the next one clears up and is made');
	ok(!-e "$dir/k.unfinished", '... and leaves nothing');
	return;
}

test_running();
test_stopped();
test_refused();
test_damaged();
test_killed();
is($tallyd->stop, 0, 'it stops');
Mounts::run('umount', '-l', "$dir/small");
done_testing;
