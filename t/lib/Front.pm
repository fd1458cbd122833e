package Front;

# A recipe for TLS in front of tallyd, as the manual has it, with the real program in front: the sample
# of etc/ with the test's own ports and files.  test_recipe does the whole test.

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use POSIX qw(WNOHANG);
use Tallyd qw(free_port patience slurp source_dir wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(program test_recipe);

use constant {
	LIMIT   => 3,         # max_connections_per_ip
	CLIENTS => 3,         # at a time while the daemon is replaced and stopped
	POSTS   => 300,       # of each, while it is replaced
	MANY    => 1_000_000, # while it is stopped: more than they come to
};

# The first of PATHS that can be run, or one of that name on the way.
sub program {
	my ($name) = @_;
	my ($found) = grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin', '/usr/local/sbin';
	return $found;
}

my ($tallyd, $dir, $port);
my @running;

sub write_file {
	my ($path, $text) = @_;
	open my $file, '>', $path or croak "cannot write $path: $!";
	print {$file} $text;
	close $file or croak "cannot write $path: $!";
	return;
}

# Runs COMMAND in a process of its own, its output in FILE; it ends with this test.
sub run {
	my ($file, @command) = @_;
	my $pid = fork;
	croak "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		open STDIN, '<', '/dev/null' or POSIX::_exit(126);
		open STDOUT, '>', $file or POSIX::_exit(126);
		open STDERR, '>>', "$file.err" or POSIX::_exit(126);
		{ no warnings 'exec'; exec 'setpriv', '--pdeathsig', 'TERM', @command; }
		POSIX::_exit(127);
	}
	push @running, $pid;
	return $pid;
}

sub ended {
	my ($pid, $deadline) = @_;
	my $status;
	wait_until { waitpid($pid, WNOHANG) == $pid ? (($status = $?), 1)[1] : 0 } $deadline || 30;
	@running = grep { $_ != $pid } @running if defined $status;
	return $status;
}

END {
	my $status = $?;
	kill 'TERM', @running;
	ended($_, 10) // kill 'KILL', $_ for @running;
	$? = $status;
}

# ---- a certificate, and requests

sub make_certificate {
	my $made = system qq(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tallyd-test)
		. qq( -addext subjectAltName=IP:127.0.0.1 -keyout '$dir/key' -out '$dir/certificate' >'$dir/openssl' 2>&1);
	croak 'openssl makes no certificate: ' . slurp("$dir/openssl") if $made != 0;
	write_file("$dir/pem", slurp("$dir/certificate") . slurp("$dir/key"));
	chmod 0600, "$dir/pem", "$dir/key";
	return;
}

sub curl {
	my ($client, $path, @options) = @_;
	return ('curl', '-s', '--interface', $client, '--cacert', "$dir/certificate", '--max-time', 60 * patience(), @options,
		"https://127.0.0.1:$port$path");
}

# The status of the answer, and its body, to one request of CLIENT.
sub ask {
	my ($client, $path, @options) = @_;
	open my $pipe, '-|', curl($client, $path, @options, '-w', '\n%{http_code}') or croak "cannot run curl: $!";
	my $text = do { local $/; <$pipe> };
	close $pipe;
	return $text =~ /\A(.*)\n(\d+)\z/s ? ($2, $1) : (0, $text);
}

my @post = ('-d', '{"account":"alice","amount":1}', '-H', 'Content-Type: application/json');

# ---- the test

sub start_tallyd {
	$tallyd = Tallyd->start(listen => [['unix:%DIR%/socket', { protocol => 'http' }], ['127.0.0.1:0', { protocol => 'http', allow_anonymous => 'true', proxy_from => '127.0.0.1' }],
			['unix:%DIR%/proxy.sock', { protocol => 'http', allow_anonymous => 'true', proxy_from => 'unix', mode => '0666' }]],
		config => { workers => 2, max_connections_per_ip => 100 });
	$dir = $tallyd->dir;
	chmod 0711, $dir; # who was root is somebody else then
	$tallyd->stop;
	$tallyd->set_config(access_log => "$dir/access");
	$tallyd->start_again;
	return;
}

# Whom the access log names for requests of PATTERN.
sub clients {
	my ($pattern) = @_;
	$tallyd->usr1;
	wait_until { slurp("$dir/access") =~ $pattern };
	return join ' ', slurp("$dir/access") =~ /^(\S+) - - .*$pattern/mg;
}

sub test_requests {
	my ($status, $body) = ask('127.0.0.3', '/events', @post);
	is($status, 200, 'an event through TLS is applied') or diag($body);
	like($body, qr/"balance":1\b/, '... and answered');
	is($tallyd->balance('alice'), 1, '... once');
	is((ask('127.0.0.4', '/accounts/nobody'))[0], 404, 'another client asks');
	is(clients(qr{"POST /events HTTP/1\.1" 200}), '127.0.0.3', 'the access log names the client of the one');
	is(clients(qr{"GET /accounts/nobody HTTP/1\.1" 404}), '127.0.0.4', '... and of the other');
	my ($pid, @lines) = run("$dir/two", curl('127.0.0.5', '/accounts/twice#[1-2]', '-w', '%{http_code} %{num_connects}\n', '-o', '/dev/null'));
	is(ended($pid), 0, 'one asks twice');
	is(slurp("$dir/two"), "404 1\n404 0\n", '... on one connection');
	is(clients(qr{"GET /accounts/twice}), '127.0.0.5 127.0.0.5', '... and is named both times');
	my $large = '[' . join(',', map { qq({"account":"bob","amount":$_}) } 1 .. 900) . ']';
	write_file("$dir/large", $large);
	($status, $body) = ask('127.0.0.3', '/events', '-H', 'Content-Type: application/json', '--data-binary', "\@$dir/large");
	is($status, 200, 'what is large passes, too') or diag($body);
	is($tallyd->balance('bob'), 900 * 901 / 2, '... all of it');
	return;
}

sub reload {
	my (%config) = @_;
	my $mark = $tallyd->log_mark;
	$tallyd->set_config(%config);
	$tallyd->hup;
	return $tallyd->wait_log(qr/reloaded: 2 workers/, 30, $mark);
}

sub test_limit {
	ok(reload(max_connections_per_ip => LIMIT), 'a limit of ' . LIMIT);
	my @feeds = map { run("$dir/feed$_", curl('127.0.0.6', '/feed', '-N')) } 1 .. LIMIT;
	ok((wait_until { LIMIT == grep { -s "$dir/feed$_" } 1 .. LIMIT }), 'a client has as many connections as it may');
	my ($status, $body) = ask('127.0.0.6', '/healthz');
	# It may have been closed before it could ask: then a proxy has nothing to pass on.
	like("$status $body", qr/^(?:503 .*too_many_connections|0+ )/s, "and not one more ($status)");
	is((ask('127.0.0.7', '/healthz'))[0], 200, 'another client has its own');
	kill 'TERM', @feeds;
	ended($_) for @feeds;
	ok((wait_until { (ask('127.0.0.6', '/healthz'))[0] == 200 }), 'it has them again');
	ok(reload(max_connections_per_ip => 100), 'enough again');
	return;
}

# CLIENTS clients that make COUNT requests each.
sub crowd {
	my ($name, $count, @options) = @_;
	return map { run("$dir/$name$_", curl('127.0.0.' . (10 + $_), "/events#[1-$count]", @post, @options, '-w', '%{http_code}\n', '-o', '/dev/null')) } 1 .. CLIENTS;
}

# The statuses that they got, all together: { status => how many }.
sub statuses {
	my ($name) = @_;
	my %count;
	$count{$_}++ for map { split /\n/, slurp("$dir/$name$_") } 1 .. CLIENTS;
	return \%count;
}

sub test_reload {
	my $before = $tallyd->balance('alice');
	my @crowd = crowd('reload', POSTS);
	for (1 .. 3) {
		my $now = $tallyd->balance('alice');
		wait_until { $tallyd->balance('alice') > $now + 20 } 5;
		ok(reload(), 'reloaded while requests run');
	}
	is(join(' ', map { ended($_, 60) // 'none' } @crowd), join(' ', (0) x CLIENTS), 'every client has come through');
	is_deeply(statuses('reload'), { 200 => CLIENTS * POSTS }, '... and got every answer');
	is($tallyd->balance('alice') - $before, CLIENTS * POSTS, '... to what was applied once');
	return;
}

sub test_drain {
	my $before = $tallyd->balance('alice');
	my @crowd = crowd('drain', MANY, '--fail-early');
	ok((wait_until { $tallyd->balance('alice') > $before + 200 }), 'requests run');
	is($tallyd->stop, 0, 'drained');
	# Each ends with its first request that is not answered.
	ended($_) for @crowd;
	my $accepted = statuses('drain')->{200} || 0;
	$tallyd->start_again;
	my $applied = $tallyd->balance('alice') - $before;
	cmp_ok($accepted, '>', 100, 'many were answered');
	ok($applied >= $accepted && $applied - $accepted <= CLIENTS, "what was answered was applied, and little else: $applied and $accepted");
	ok((wait_until { (ask('127.0.0.3', '/events', @post))[0] == 200 }), 'the next daemon is found');
	return;
}

# Begins the program with the sample changed, in front of the listener TO, a port or a path.
sub begin_front {
	my ($sample, $changes, $command, $to) = @_;
	$port = free_port();
	my $text = slurp(source_dir() . "/etc/$sample");
	my %change = %{ $changes->($dir, $port, $to) };
	for my $from (sort { length $b <=> length $a } keys %change) {
		croak "etc/$sample has no \"$from\"" unless $text =~ s/\Q$from\E/$change{$from}/g;
	}
	write_file("$dir/$sample", $text);
	my $pid = run("$dir/front", $command->("$dir/$sample", $dir));
	my $serves = wait_until { (ask('127.0.0.3', '/healthz'))[0] == 200 } 20;
	ok($serves, 'it serves, and its certificate is taken')
		or BAIL_OUT(join "\n", map { -e "$dir/$_" ? slurp("$dir/$_") : () } qw(front front.err error.log));
	return $pid;
}

sub end_front {
	my ($pid) = @_;
	kill 'TERM', $pid;
	ok(defined ended($pid), 'it ends');
	return;
}

# By a Unix socket, as the manual advises where others have accounts on the machine.
sub test_unix {
	my $pid = begin_front(@_, "$dir/proxy.sock");
	is((ask('127.0.0.8', '/accounts/local'))[0], 404, 'a client asks by way of a Unix socket');
	is(clients(qr{"GET /accounts/local HTTP/1\.1" 404}), '127.0.0.8', '... and is named, too');
	end_front($pid);
	return;
}

# SAMPLE is a file of etc/; CHANGES its texts that are other ones here, as { from => to }, of which each
# is there; COMMAND gives the program's command line from the path of the changed file.
sub test_recipe {
	my ($sample, $changes, $command) = @_;
	for my $needed (qw(openssl curl setpriv)) {
		plan(skip_all => "$needed is not installed") unless program($needed);
	}
	start_tallyd();
	make_certificate();
	my $pid = begin_front($sample, $changes, $command, $tallyd->port(1));
	test_requests();
	test_limit();
	test_reload();
	test_drain();
	end_front($pid);
	test_unix($sample, $changes, $command);
	is($tallyd->stop, 0, 'drained');
	done_testing();
	return;
}

1;
