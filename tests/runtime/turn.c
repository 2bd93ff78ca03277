/* turn.c: a module of which two are built, alike but for the size of its frame (TURN_ROOM), so that one can come to
   where the other was. */

void turn_call(void (*call)(void));

void turn_call(void (*call)(void))
{
    volatile char room[TURN_ROOM];
    room[0] = 1;
    call();
    room[TURN_ROOM - 1] = room[0];
}
