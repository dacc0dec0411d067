"""What people say in the traces. None of it is in the model's training material (data/gateway)."""

MESSAGES = """
Hello
Is anybody on the night shift yet?
the pump in hall three sounds wrong again
Reading 41.7 and falling slowly
copy that, heading over now
Could you bring the long ladder and two headlamps?
We anchored behind the reef, wind has dropped to almost nothing
no tracks since the second bridge
Supper is at eight unless the ferry is late
thx, got it
I moved the spare battery to the blue crate
Nobody answers on channel 6
the goats got out AGAIN
Your parcel is with the neighbour upstairs
Tide turns around half past four, we should leave before that
all fine here, just tired
Snow line is lower than forecast, about 1400 m
who took the red notebook?
signal drops whenever the generator starts
ok 👌
Please ask Ines whether she still needs the tent
It works if you hold the cable at an angle, which is not a fix
Second dose at 21:00, do not forget
map attached would be nice, but with this link… rather not
left at the chapel, right at the water tower, then uphill for ten minutes
we lost one panel in the hail, the other five are fine
good catch!
Weather fax says gale by Thursday
Can we swap shifts on Sunday? My sister is visiting
still waiting at the gate
two litres of diesel left, that is maybe three hours
They repaired the road as far as the quarry
the dog is with us, do not worry
password is on the fridge
I counted 112 birds, Olek says 109
wrong room, sorry
Back online after the storm, what did I miss?
Need gauze, tape and something against fever
roger
Frost killed the tomatoes, the beans made it
The relay on the hill has a new antenna, please test
no rush, tomorrow is fine too
+1
have you eaten?
Bearing 285, about six miles, no lights
let us talk when you are back at camp
It was the fuse. It is always the fuse.
The kids drew you a picture, I will keep it safe
stuck behind a landslide, one lane should open at noon
Hi! Long time no see
""".strip().split("\n")

ROOM_NAMES = ["Harbour watch", "Upper valley clinic", "Seismic station 4", "Family", "Ski patrol radio",
              "Reforestation crew", "Boat share", "Observatory night log"]
PEOPLE = ["ines", "olek", "marta", "tomasz", "yuki", "farid", "greta", "luca", "noor", "pavel", "sanna", "bo"]
HOSTS = ["fjordnet.example", "hut.alpine.example", "matrix.coop.test", "seaward.example.org",
         "tundra.example"]
DEVICES = ["Cabin radio", "Rescue tablet", "Pocket terminal", "FluffyChat on handset"]
