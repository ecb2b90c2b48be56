import { describe, expect, test } from 'tstyche'
import {
  cacheObject, localRedisObject, memcachedObject, memory, memoryObject, property, redisObject,
  type CacheObjectClass, type CacheObjectInstance, type CachingApi, type Property, type PropertyAccess
} from 'fastify-caching-api'

declare const api: CachingApi

const UserCache = cacheObject({
  name: 'UserCache',
  backend: memory(),
  properties: { username: property<string>(), visits: property({ default: 0 }), tags: property<readonly string[]>({ ttl: '1h' }) }
})
class Member extends UserCache {
  async shout (): Promise<string> {
    return String(await this.username).toUpperCase()
  }
}
class Admin extends cacheObject({ name: 'Admin', extends: Member, properties: { level: property<number>() } }) {
  async rank (): Promise<string> {
    return `${await this.shout()} ${await this.level}`
  }
}
declare const user: InstanceType<typeof UserCache>
declare const admin: Admin

test('a property has its own type, or that of its default', () => {
  expect(property<string>()).type.toBe<Property<string>>()
  expect(property({ default: 0 })).type.toBe<Property<number>>()
  expect(property).type.not.toBeCallableWith({ defaults: 0 })
  expect(property<string>).type.not.toBeCallableWith({ default: 1 })
})

describe('an object', () => {
  test('its properties are awaited and assigned', () => {
    expect(user.username).type.toBe<PropertyAccess<string>>()
    expect<Awaited<typeof user.username>>().type.toBe<string | null>()
    expect<Awaited<typeof user.visits>>().type.toBe<number | null>()
    expect<Awaited<typeof user.tags>>().type.toBe<readonly string[] | null>()
    expect<'alice'>().type.toBeAssignableTo<typeof user.username>()
    expect<null>().type.toBeAssignableTo<typeof user.username>()
    expect<1>().type.not.toBeAssignableTo<typeof user.username>()
    expect<undefined>().type.not.toBeAssignableTo<typeof user.username>()
    expect(user).type.not.toHaveProperty('nickname')
    expect(user.id).type.toBe<string>()
  })

  test('its methods know its properties', () => {
    expect(user.get('username', { useCache: true })).type.toBe<Promise<string | null>>()
    expect(user.get('visits')).type.toBe<Promise<number | null>>()
    expect(user.get).type.not.toBeCallableWith('nickname')
    expect(user.get).type.not.toBeCallableWith('username', { cache: true })
    expect(user.getAll()).type.toBe<Promise<{ username: string | null, visits: number | null, tags: readonly string[] | null }>>()
    expect(user.set('username', 'alice')).type.toBe<Promise<void>>()
    expect(user.set('username', null)).type.toBe<Promise<void>>()
    expect(user.set<'username'>).type.not.toBeCallableWith('username', 1)
    expect(user.delete).type.not.toBeCallableWith('nickname')
    expect(user.deleteAll()).type.toBe<Promise<void>>()
    expect(user.save()).type.toBe<Promise<void>>()
  })

  test('its id is a string, a number or a bigint', () => {
    expect(UserCache).type.toBeConstructableWith('10')
    expect(UserCache).type.toBeConstructableWith(10)
    expect(UserCache).type.toBeConstructableWith(10n)
    expect(UserCache).type.not.toBeConstructableWith()
    expect(UserCache).type.not.toBeConstructableWith(null)
  })
})

describe('a subclass', () => {
  test('has the properties and methods of both', () => {
    expect<Awaited<typeof admin.username>>().type.toBe<string | null>()
    expect<Awaited<typeof admin.level>>().type.toBe<number | null>()
    expect(admin.shout()).type.toBe<Promise<string>>()
    expect(admin.rank()).type.toBe<Promise<string>>()
    expect(admin.get('level')).type.toBe<Promise<number | null>>()
    expect(admin.get('username')).type.toBe<Promise<string | null>>()
    expect(admin.getAll()).type.toBeAssignableTo<Promise<{ username: string | null, visits: number | null, level: number | null }>>()
    expect<Admin>().type.toBeAssignableTo<Member>()
    expect(new Member(1)).type.not.toHaveProperty('level')
  })

  test('needs a class of ours to extend', () => {
    expect(cacheObject).type.not.toBeCallableWith({ name: 'X', extends: class {}, properties: {} })
  })
})

test('object() gives an instance of the class that it is given', () => {
  expect(api.object(UserCache, 10)).type.toBe<InstanceType<typeof UserCache>>()
  expect(api.object(Member, 10)).type.toBe<Member>()
  expect(api.object(Admin, '10')).type.toBe<Admin>()
  expect(api.object).type.not.toBeCallableWith(class {}, 1)
  expect(api.object).type.not.toBeCallableWith(UserCache)
})

test('shortcuts make classes from a name and properties', () => {
  const properties = { name: property<string>() }
  type Named = CacheObjectClass<{ name: Property<string> }>
  expect(memoryObject('X', properties)).type.toBe<Named>()
  expect(redisObject({})('X', properties)).type.toBe<Named>()
  expect(memcachedObject({})('X', properties)).type.toBe<Named>()
  expect(localRedisObject({ port: 1 })('X', properties, { timeout: '1s' })).type.toBe<Named>()
  expect(new (memoryObject('X', properties))(1)).type.toBe<CacheObjectInstance<{ name: Property<string> }>>()
})
